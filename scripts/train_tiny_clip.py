"""Train the CLIP of the `tiny` preset from nothing, on rendered emoji pictures and their captions.

    torchrun --nproc-per-node 2 scripts/train_tiny_clip.py --out runs/tiny-clip

Captions name concepts from the whole list. Beside the picture, rectangular crops of it have captions, too: what a
crop shows is told apart by attention, so that the picture is computed once. The network is given no mask; but where
most crops lie (around things) and which captions are right is read off the scene's labels, of all concepts.

Training starts with pieces as small as an emoji at random places in the preset's field of view, and ends with all of
it. Run the command again to go on after an interruption, or with longer --phases to prolong.
FOLDER/tiny_clip.safetensors is the result, under open_clip's tensor names.

One process a core, one thread each: matrices this small gain little from a second thread. Every process contrasts its
own pictures; their gradients are averaged. With the same number of processes a run that was interrupted goes on with
the pictures and captions that it would have had.
"""

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from probe_clip import probe
from safetensors.torch import save_file
from tiny_captions import Caption, caption, mentions, single_captions, token_ids, token_places
from tiny_crops import SEED, THINGS, Cropped, Pictures, collate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from san_cli.datasets.emoji.pairs import ScenePair
from san_cli.models.clip import build_image_tower, build_text_tower, clip_features, recognise_regions
from san_cli.models.presets import TINY
from san_cli.models.san import normalise
from san_cli.models.text import encode_prompts
from san_cli.vocabulary.emoji_concepts import concepts

STATE = "state.pt"
PHASES = "80:75000,160:310000,320:65000"  # pixels:pictures
VALIDATION_SEED = 30_000
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
OUTSIDE = -10.0  # attention bias of the patches outside of a crop
SENTENCES = 32  # about whole pictures, in a step of a process


def main() -> None:
    args = _parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if PROCESSES > 1:
        dist.init_process_group("gloo")
    clip = TinyClip()
    optimizers = optimizers_of(clip, args.muon_lr, args.lr)
    done = _resume(args.out / STATE, clip, optimizers)
    end = 0
    for size, pictures in args.phases:
        end += pictures
        if done < end:
            train_phase(clip, optimizers, size, range(done, end), args)
            done = end
    if RANK == 0:
        export(clip, args.out / "tiny_clip.safetensors")


class TinyClip(nn.Module):
    """Both towers and the temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = build_image_tower(TINY.clip)
        self.text = build_text_tower(replace(TINY.clip, vocab_size=len(token_ids())))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        with torch.no_grad():
            self.visual.positional_embedding[1:] = waves(self.visual.grid_size[0], TINY.clip.width)

    def crops(self, pixels: Tensor, boxes: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """Normalised embeddings [B, K, D], float32, of K crops of each picture, uint8 RGB [B, 3, H, W].

        `boxes` [B, K, h, w] (bool) are the patches of each crop: all of them is open_clip's `encode_image`. `corner`
        is the patch of the preset's field of view where the pictures' first one lies.
        """
        side = self.visual.grid_size[0]
        places = torch.arange(side * side).view(side, side)
        top, left = corner
        places = places[top : top + boxes.shape[2], left : left + boxes.shape[3]].flatten()
        positions = self.visual.positional_embedding[
            torch.cat([torch.zeros(1, dtype=torch.long), 1 + places])
        ]
        features, grid = clip_features(self.visual, normalise_unpadded(pixels), TINY, positions=positions)
        bias = torch.where(boxes, 0.0, OUTSIDE)[:, None].expand(-1, TINY.clip.heads, -1, -1, -1)
        return F.normalize(recognise_regions(self.visual, features, grid, bias, TINY).float(), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised embeddings [T, D], float32."""
        tokens = torch.stack([token_places(text) for text in texts])
        order = tokens.argmax(dim=-1).argsort()  # by length: a part is as long as its longest text
        features = torch.cat([encode_prompts(self.text, part) for part in tokens[order].split(64)])
        return F.normalize(features[order.argsort()].float(), dim=-1)


def waves(side: int, width: int) -> Tensor:
    """Where position embeddings [side², width] start: sines and cosines of row and column.

    Neighbours are alike from the start, and a step to the right is the same everywhere.
    """
    frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(1.5), width // 4))
    angles = torch.arange(side)[:, None] * frequencies  # [side, width/4]
    one = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width/2]
    rows, columns = one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)
    return 0.3 * torch.cat([rows, columns], dim=-1).flatten(0, 1)


def train_phase(
    clip: TinyClip,
    optimizers: list[torch.optim.Optimizer],
    size: int,
    pictures: range,
    args: argparse.Namespace,
) -> None:
    """Train on these of all pictures at `size` pixels, with a checkpoint every so often and at the end."""
    meter, done = Meter(), pictures.start

    def keep() -> None:
        if RANK == 0:
            _log(f"{done:8d} VALIDATION {validate(clip)}")
            _save(args.out / STATE, clip, optimizers, done)

    for batch in batches(size, pictures, max(16, round(args.batch * 80 / size))):
        rate, seen = learning_rate(done, args.phases), PROCESSES * len(batch.images)
        rng = np.random.default_rng((SEED, 1, done + RANK))
        meter.add(train_step(clip, optimizers, batch, rng, rate), seen)
        before, done = done, done + seen
        if done // 1_000 > before // 1_000:
            scale = clip.logit_scale.exp().item()
            _log(f"{done:8d} pictures  {size} px  {meter.read()}  lr x {rate:.3f}  scale {scale:.1f}")
        if done // args.every > before // args.every:
            keep()
    done = pictures.stop
    keep()


@dataclass
class Meter:
    """Mean loss and pictures per second since it was last read."""

    losses: list[float] = field(default_factory=list)
    pictures: int = 0
    since: float = field(default_factory=time.perf_counter)

    def add(self, loss: float, pictures: int) -> None:
        self.losses.append(loss)
        self.pictures += pictures

    def read(self) -> str:
        now = time.perf_counter()
        text = f"loss {np.mean(self.losses):.3f}  {self.pictures / (now - self.since):.0f}/s"
        self.losses, self.pictures, self.since = [], 0, now
        return text


def _log(line: str) -> None:
    if RANK == 0:
        print(time.strftime("%H:%M:%S"), line, flush=True)


def normalise_unpadded(pixels: Tensor) -> Tensor:
    """As SAN normalises its input, without the padding to multiples of 32."""
    return normalise(pixels)[..., : pixels.shape[-2], : pixels.shape[-1]]


def batches(size: int, pictures: range, batch: int) -> Iterator[Pictures]:
    """This process's share, in whole batches, of these numbers of pictures; the last may reach past the end."""
    steps = math.ceil(len(pictures) / (batch * PROCESSES))
    first = pictures.start + RANK
    indices = range(first, first + steps * batch * PROCESSES, PROCESSES)
    return iter(DataLoader(Cropped(size), batch, sampler=indices, collate_fn=collate))


def sentences(rng: np.random.Generator, holds: Tensor) -> list[Caption]:
    """A sentence about each of the first pictures, of which `holds` [B, C] says what they show."""
    found = []
    for row in holds[:SENTENCES]:
        shown = row.nonzero().flatten().tolist()
        if shown:
            things, grounds = [i for i in shown if i < THINGS], [i for i in shown if i >= THINGS]
            found.append(caption(rng, rng.permutation(things)[:4].tolist(), grounds))
    return found


def train_step(
    clip: TinyClip,
    optimizers: list[torch.optim.Optimizer],
    batch: Pictures,
    rng: np.random.Generator,
    rate: float,
) -> float:
    """One step at `rate` times the peak learning rates. The loss."""
    captions = [*single_captions(rng), *sentences(rng, batch.holds[:, 0])]
    slack = clip.visual.grid_size[0] - batch.boxes.shape[-1]
    corner = (int(rng.integers(slack + 1)), int(rng.integers(slack + 1)))
    # On CPUs the fused kernel is slower than plain attention at 25 or 100 tokens, and faster at 400.
    fused = [SDPBackend.FLASH_ATTENTION] if batch.boxes[0, 0].numel() >= 200 else []
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel([*fused, SDPBackend.MATH]):
        image_features = clip.crops(batch.images, batch.boxes, corner).flatten(0, 1)
        text_features = clip.texts([text for text, _ in captions])
    logits = clip.logit_scale.exp() * image_features @ text_features.T
    holds, lacks = (part.flatten(0, 1).float() for part in (batch.holds, batch.lacks))
    loss = contrastive_loss(logits, holds, lacks, mentions(captions))
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if PROCESSES > 1:
        average_gradients(clip)
    nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * optimizer.defaults["lr"]
        optimizer.step()
    with torch.no_grad():
        clip.logit_scale.clamp_(0, math.log(100))
    return loss.item()


def average_gradients(clip: nn.Module) -> None:
    """Give every process the mean of all processes' gradients."""
    gradients = [parameter.grad for parameter in clip.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / PROCESSES
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def contrastive_loss(logits: Tensor, holds: Tensor, lacks: Tensor, mentions: Tensor) -> Tensor:
    """CLIP's symmetric loss [] with several right answers.

    `logits` [B, T] of pictures (crops) and captions; `holds` and `lacks` [B, C] say which concepts a
    picture shows and which it doesn't, `mentions` [T, C] which a caption names. A caption is true of a picture
    that holds all it names, false of one that lacks any. Each true pair competes with the captions that are
    false of the picture, and with the pictures that the caption is false of, never with other true ones.
    """
    true = holds @ mentions.T == mentions.sum(1)
    false = logits.masked_fill(lacks @ mentions.T == 0, -1e4)
    # -log(e^true / (e^true + sum of e^false)), for every pair
    by_image = F.softplus(false.logsumexp(1, keepdim=True) - logits)
    by_text = F.softplus(false.logsumexp(0, keepdim=True) - logits)
    # Each caption weighs the same, however many pictures it is true of.
    of_caption = ((by_image + by_text) * true).sum(0) / true.sum(0).clamp(min=1)
    return of_caption.sum() / true.any(0).sum().clamp(min=1) / 2


def learning_rate(done: int, phases: Sequence[tuple[int, int]]) -> float:
    """Relative to the peak: a linear warm-up over 9,000 pictures, and a straight way down, by pixels, to 2 %."""
    seen, total, start = 0, 0, 0
    for size, pictures in phases:
        seen += size**2 * min(max(done - start, 0), pictures)
        total += size**2 * pictures
        start += pictures
    return min(1.0, (done + 1_000) / 10_000) * max(0.02, 1 - seen / total)


@torch.inference_mode()
def validate(clip: TinyClip) -> str:
    """Top-1 over all names in scenes never trained on, with true masks as attention bias (scripts/probe_clip.py)."""
    texts = clip.texts([f"a photo of a {concept.name}." for concept in concepts()])
    names = [f"validation {index}" for index in range(60)]
    pairs = [ScenePair(Path(name), Path(name), name, VALIDATION_SEED, i) for i, name in enumerate(names)]
    found = np.array([row for pair in pairs for row in probe(clip.visual, texts, pair)])
    right, things = found[:, 0], found[:, 1] == 1
    small = things & (found[:, 2] < 0.02)
    shares = ((things, "things"), (small, "small ones"), (~things, "textures"))
    return "  ".join(f"{name} {right[rows].mean():.1%}" for rows, name in shares)


def optimizers_of(clip: TinyClip, muon_lr: float, lr: float) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices of the towers' blocks, which halves the pictures needed.

    Nothing else decays but the patch embedding: most rows of the token table are trained now and then.
    """
    blocks = [*clip.visual.transformer.parameters(), *clip.text.transformer.parameters()]
    matrices = [p for p in blocks if p.ndim == 2]
    of_muon = {id(p) for p in matrices}
    rest = [p for p in clip.parameters() if id(p) not in of_muon]
    groups = [
        {"params": [p for p in rest if p.ndim == 4], "weight_decay": 0.05},
        {"params": [p for p in rest if p.ndim != 4], "weight_decay": 0.0},
    ]
    return [
        torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True),
        # As large a step as AdamW's would be: weight decay and schedule mean the same for both.
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
    ]


def _resume(path: Path, clip: TinyClip, optimizers: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    clip.load_state_dict(state["clip"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    _log(f"going on after {state['done']} pictures")
    return int(state["done"])


def _save(path: Path, clip: TinyClip, optimizers: list[torch.optim.Optimizer], done: int) -> None:
    kept = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"clip": clip.state_dict(), "optimizers": kept, "done": done}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def export(clip: TinyClip, path: Path) -> None:
    """Write both towers and the temperature under open_clip's names, float32.

    Tokens that no caption holds were never trained: zeros for them, which also compress well.
    """
    state = {f"visual.{name}": tensor for name, tensor in clip.visual.state_dict().items()}
    state |= dict(clip.text.state_dict()) | {"logit_scale": clip.logit_scale.detach()}
    table = torch.zeros(TINY.clip.vocab_size, TINY.clip.text_width)
    table[token_ids()] = state["token_embedding.weight"]
    state["token_embedding.weight"] = table
    part = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in sorted(state.items())}, part)
    part.replace(path)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--phases", type=_phases, default=PHASES, help=f"pixels:pictures,… (default {PHASES})"
    )
    parser.add_argument("--batch", type=int, default=128, help="pictures of each process in a step at 80 px")
    parser.add_argument("--lr", type=float, default=2e-3, help="of AdamW")
    parser.add_argument("--muon-lr", type=float, default=1e-2)
    parser.add_argument(
        "--every", type=int, default=20_000, help="pictures between validations and checkpoints"
    )
    return parser.parse_args()


def _phases(text: str) -> list[tuple[int, int]]:
    return [(int(size), int(pictures)) for size, pictures in (part.split(":") for part in text.split(","))]


if __name__ == "__main__":
    main()
