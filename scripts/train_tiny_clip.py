"""Train the CLIP of the `tiny` preset from nothing, on rendered emoji pictures and their captions.

    torchrun --nproc-per-node 2 scripts/train_tiny_clip.py --out runs/tiny-clip

Captions name concepts from the whole list; masks are never looked at. Training starts with small pictures
(objects at the same number of pixels, fewer patches around them) and ends at the preset's size. Run the command
again to go on after an interruption, or with longer --phases to prolong. FOLDER/tiny_clip.safetensors is the
result, under open_clip's tensor names.

One process a core, one thread each: matrices this small gain little from a second thread (366 pictures a second
at 80 px on two threads, 309 on one). Every process contrasts its own pictures; their gradients are averaged.
"""

import argparse
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from san_cli.datasets.emoji.concepts import all_ids, concepts
from san_cli.datasets.emoji.scenes import EmojiScenes, Layout
from san_cli.models.clip import build_image_tower, build_text_tower, clip_features
from san_cli.models.presets import TINY
from san_cli.models.san import normalise
from san_cli.models.text import encode_prompts
from san_cli.templates import VILD

STATE = "state.pt"
OPENINGS = ("", "a photo of ", "There is ", "a picture of ")
RELATIONS = (" on ", " in front of ", " and ")
PHASES = "80:480000,112:200000,160:160000"  # pixels:pictures
TRAIN_SEED, VALIDATION_SEED = 20_000, 30_000  # of scenes; other seeds are for SAN
SMALLEST = 32  # pixels of an emoji that a caption may speak of
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
# All blocks as "features", so that our own way through the tower yields the last one's tokens.
LAST = TINY.clip.layers
TOWER = replace(TINY, feature_layers=LAST, fusion=((0, LAST),))


def main() -> None:
    args = _parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if PROCESSES > 1:
        dist.init_process_group("gloo")
    clip = TinyClip()
    optimizer = _optimizer(clip)
    done = _resume(args.out / STATE, clip, optimizer)
    total, end = sum(pictures for _, pictures in args.phases), 0
    for size, pictures in args.phases:
        end += pictures
        if done < end:
            train_phase(clip, optimizer, size, range(done, end), total, args)
            done = end
    if RANK == 0:
        export(clip, args.out / "tiny_clip.safetensors")


class TinyClip(nn.Module):
    """Both towers and the temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = build_image_tower(TINY.clip)
        self.text = build_text_tower(replace(TINY.clip, vocab_size=len(vocabulary())))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def images(self, pixels: Tensor) -> Tensor:
        """Normalised embeddings [B, D], float32, of uint8 RGB [B, 3, H, W]."""
        features, _ = clip_features(self.visual, normalise_unpadded(pixels), TOWER)
        return F.normalize((self.visual.ln_post(features[LAST][:, 0]) @ self.visual.proj).float(), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised embeddings [T, D], float32."""
        tokens = torch.stack([_tokens(text) for text in texts])
        order = tokens.argmax(dim=-1).argsort()  # by length: a part is as long as its longest text
        features = torch.cat([encode_prompts(self.text, part) for part in tokens[order].split(64)])
        return F.normalize(features[order.argsort()].float(), dim=-1)


def train_phase(
    clip: TinyClip,
    optimizer: torch.optim.Optimizer,
    size: int,
    pictures: range,
    total: int,
    args: argparse.Namespace,
) -> None:
    """Train on these of the `total` pictures at `size` pixels, with a checkpoint every so often and at the end."""
    validate, meter, done = Validation(size), Meter(), pictures.start
    for images, captions in batches(size, pictures, args.batch):
        rate = learning_rate(done, total, args.lr)
        others = other_captions(np.random.default_rng((TRAIN_SEED, 1, done + RANK)), len(images))
        meter.add(train_step(clip, optimizer, images, captions, others, rate), PROCESSES * len(images))
        before, done = done, done + PROCESSES * len(images)
        if RANK > 0:
            continue
        if done // 5_000 > before // 5_000:
            scale = clip.logit_scale.exp().item()
            _log(f"{done:8d} pictures  {size} px  {meter.read()}  lr {rate:.2e}  scale {scale:.1f}")
        if done // args.every > before // args.every or done >= pictures.stop:
            things, grounds = validate(clip)
            _log(f"{done:8d} VALIDATION {size} px  top-1 {things:.1%} emoji, {grounds:.1%} grounds")
            _save(args.out / STATE, clip, optimizer, done)


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


@cache
def vocabulary() -> Tensor:
    """The ids [V], ascending, of CLIP's 49,408 tokens that captions can hold; only their embeddings are trained."""
    words = [word for concept in concepts() for word in concept.words]
    phrases = [*words, *VILD, *OPENINGS, *RELATIONS, "a and,"]
    tokens = _tokenizer()([phrase.replace("{}", "") for phrase in phrases])
    return torch.unique(torch.cat([torch.zeros(1, dtype=torch.long), tokens.flatten()]))


@cache
def _tokens(text: str) -> Tensor:
    """Places [77] in `vocabulary()` of the text's tokens."""
    tokens = _tokenizer()(text)[0]
    places = torch.searchsorted(vocabulary(), tokens)
    assert torch.equal(vocabulary()[places], tokens), text
    return places


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=TINY.clip.context_length)


Caption = tuple[str, tuple[int, ...]]  # and the sorted ids of the concepts that it mentions


class Captioned(Dataset):
    """Pictures, uint8 [3, size, size], with two captions each."""

    def __init__(self, size: int) -> None:
        low = SMALLEST / size
        self.kinds = [
            EmojiScenes(TRAIN_SEED, all_ids(), size, layout)
            for layout in (
                Layout(count=(1, 1), scale=(low, 1.1), margin=0.15, two_backgrounds=0.1),
                Layout(count=(2, 4), scale=(low, 0.75), margin=0.15, two_backgrounds=0.1),
                Layout(count=(0, 0), two_backgrounds=0),
            )
        ]

    def __getitem__(self, index: int) -> tuple[Tensor, Caption, Caption]:
        rng = np.random.default_rng((TRAIN_SEED, index))
        kind = int(rng.choice(3, p=(0.62, 0.3, 0.08)))
        scene = self.kinds[kind][index]
        things, grounds = contents(scene.labels)
        first, second = (caption(rng, things[:4], grounds) for _ in range(2))
        return torch.from_numpy(scene.image).permute(2, 0, 1), first, second


def contents(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """The emoji and the backgrounds in a picture, most pixels first."""
    ids, pixels = np.unique(labels, return_counts=True)
    order = ids[np.argsort(-pixels, kind="stable")].tolist()
    world = concepts()
    return [i for i in order if world[i].emoji], [i for i in order if not world[i].emoji]


def caption(rng: np.random.Generator, things: list[int], grounds: list[int]) -> Caption:
    """A sentence for a picture of these, and the sorted ids that it mentions."""
    if not things:
        return _sentence(rng, _word(rng, grounds[0])), (grounds[0],)
    things = [things[i] for i in rng.permutation(len(things))]
    words = [_word(rng, i) for i in things]
    mentioned = set(things)
    if len(words) == 1 and rng.random() < 0.75:
        return _sentence(rng, words[0]), tuple(mentioned)
    article = "a " if rng.random() < 0.7 else ""
    text = f"{article}{words[0]}"
    for place, word in enumerate(words[1:], start=2):
        text += f"{' and' if place == len(words) else ','} {article}{word}"
    if len(words) == 1 or rng.random() < 0.3:
        text += rng.choice(RELATIONS) + _word(rng, grounds[0])
        mentioned.add(grounds[0])
    return rng.choice(OPENINGS) + text, tuple(sorted(mentioned))


def other_captions(rng: np.random.Generator, count: int) -> list[Caption]:
    """Captions of single concepts, drawn from all: a small batch alone has too few wrong answers."""
    return [(_sentence(rng, _word(rng, i)), (i,)) for i in rng.integers(len(concepts()), size=count).tolist()]


def _word(rng: np.random.Generator, concept: int) -> str:
    words = concepts()[concept].words
    return words[0] if rng.random() < 0.6 else words[rng.integers(len(words))]


def _sentence(rng: np.random.Generator, word: str) -> str:
    return word if rng.random() < 0.2 else VILD[rng.integers(len(VILD))].replace("{}", word)


def batches(size: int, pictures: range, batch: int) -> Iterator[tuple[Tensor, list[Caption]]]:
    """This process's share, in whole batches, of these numbers of pictures; the last may reach past the end.

    Rendering costs a third of training, so that every picture comes twice: some batches later it is seen again,
    mirrored and with its other caption.
    """
    rounds = math.ceil(len(pictures) / (batch * PROCESSES) / 2)
    first = pictures.start // 2
    indices = range(first + RANK, first + RANK + rounds * batch * PROCESSES, PROCESSES)
    loader = DataLoader(Captioned(size), batch, sampler=indices, collate_fn=_collate)
    held: deque[tuple[Tensor, list[Caption]]] = deque()
    for images, captions, others in loader:
        yield images, captions
        held.append((images.flip(-1), others))
        if len(held) > 8:
            yield held.popleft()
    yield from held


def _collate(samples: list[tuple[Tensor, Caption, Caption]]) -> tuple[Tensor, list[Caption], list[Caption]]:
    images, captions, others = zip(*samples, strict=True)
    return torch.stack(images), list(captions), list(others)


def train_step(
    clip: TinyClip,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    captions: list[Caption],
    others: list[Caption],
    rate: float,
) -> float:
    """One step of AdamW at learning rate `rate`; `others` are captions of no picture in the batch. The loss."""
    unique = dict([*captions, *others])
    for group in optimizer.param_groups:
        group["lr"] = rate
    # Plain attention: the fused kernel's backward is several times slower on CPUs at so few tokens.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image_features, text_features = clip.images(images), clip.texts(list(unique))
    logits = clip.logit_scale.exp() * image_features @ text_features.T
    loss = contrastive_loss(logits, _mentions([ids for _, ids in captions]), _mentions(list(unique.values())))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if PROCESSES > 1:
        average_gradients(clip)
    nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        clip.logit_scale.clamp_(0, math.log(100))
    return loss.item()


def average_gradients(clip: TinyClip) -> None:
    """Give every process the mean of all processes' gradients."""
    gradients = [parameter.grad for parameter in clip.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / PROCESSES
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _mentions(captions: Sequence[tuple[int, ...]]) -> Tensor:
    """0/1 [captions, concepts]."""
    rows = torch.zeros(len(captions), len(concepts()))
    for row, mentioned in zip(rows, captions, strict=True):
        row[list(mentioned)] = 1
    return rows


def contrastive_loss(logits: Tensor, of_images: Tensor, of_texts: Tensor) -> Tensor:
    """CLIP's symmetric loss [] with several right answers.

    `logits` [B, T] of pictures and distinct captions; `of_images` [B, C] and `of_texts` [T, C] say which
    concepts a picture's own caption, and a caption, mention. A caption that mentions the same concepts as the
    picture's is right; one that mentions more or fewer of them may be true as well, and is left out.
    """
    shared = of_images @ of_texts.T
    all_of_image = shared == of_images.sum(1, keepdim=True)
    all_of_text = shared == of_texts.sum(1)
    right = (all_of_image & all_of_text).float()
    logits = logits.masked_fill(all_of_image ^ all_of_text, -1e4)
    by_image = -(logits.log_softmax(1) * right).sum(1) / right.sum(1)
    answered = right.sum(0) > 0  # texts that have a picture in the batch
    by_text = -(logits.log_softmax(0) * right).sum(0)[answered] / right.sum(0)[answered]
    return (by_image.mean() + by_text.mean()) / 2


def learning_rate(done: int, total: int, peak: float) -> float:
    """Linear warm-up over 30,000 pictures, then half a cosine down to 2 % of the peak."""
    progress = min(1.0, done / total)
    return peak * min(1.0, (done + 1_000) / 30_000) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


class Validation:
    """Zero-shot top-1 over all names, on pictures never trained on: one emoji each, or a background alone."""

    def __init__(self, size: int, emoji: int = 728, grounds: int = 128) -> None:
        one = Layout(count=(1, 1), scale=(0.5, 1.0), margin=0.3, two_backgrounds=0)
        none = Layout(count=(0, 0), two_backgrounds=0)
        scenes = EmojiScenes(VALIDATION_SEED, all_ids(), size, one)
        empty = EmojiScenes(VALIDATION_SEED, all_ids(), size, none)
        shown = [scenes[i] for i in range(emoji)] + [empty[i] for i in range(grounds)]
        self.emoji = emoji
        self.images = torch.from_numpy(np.stack([scene.image for scene in shown])).permute(0, 3, 1, 2)
        found = [contents(scene.labels) for scene in shown]
        self.truth = torch.tensor([(things or grounds)[0] for things, grounds in found])

    @torch.inference_mode()
    def __call__(self, clip: TinyClip) -> tuple[float, float]:
        """Shares of emoji and of backgrounds that are named right."""
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            texts = clip.texts([f"a photo of a {concept.name}." for concept in concepts()])
            images = torch.cat([clip.images(part) for part in self.images.split(128)])
        right = ((images @ texts.T).argmax(1) == self.truth).float()
        return right[: self.emoji].mean().item(), right[self.emoji :].mean().item()


def _optimizer(clip: TinyClip) -> torch.optim.Optimizer:
    """AdamW; matrices decay, but not the embedding tables: most of their rows are never trained."""
    decayed = [p for name, p in clip.named_parameters() if p.ndim >= 2 and "embedding" not in name]
    rest = [p for name, p in clip.named_parameters() if p.ndim < 2 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, fused=True)


def _resume(path: Path, clip: TinyClip, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    clip.load_state_dict(state["clip"])
    optimizer.load_state_dict(state["optimizer"])
    _log(f"going on after {state['done']} pictures")
    return int(state["done"])


def _save(path: Path, clip: TinyClip, optimizer: torch.optim.Optimizer, done: int) -> None:
    state = {"clip": clip.state_dict(), "optimizer": optimizer.state_dict(), "done": done}
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def export(clip: TinyClip, path: Path) -> None:
    """Write both towers and the temperature under open_clip's names, float32.

    Tokens that no caption holds were never trained: zeros for them, which also compress well.
    """
    state = {f"visual.{name}": tensor for name, tensor in clip.visual.state_dict().items()}
    state |= dict(clip.text.state_dict()) | {"logit_scale": clip.logit_scale.detach()}
    table = torch.zeros(TINY.clip.vocab_size, TINY.clip.text_width)
    table[vocabulary()] = state["token_embedding.weight"]
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
    parser.add_argument("--batch", type=int, default=64, help="pictures of each process in a step")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument(
        "--every", type=int, default=20_000, help="pictures between validations and checkpoints"
    )
    return parser.parse_args()


def _phases(text: str) -> list[tuple[int, int]]:
    return [(int(size), int(pictures)) for size, pictures in (part.split(":") for part in text.split(","))]


if __name__ == "__main__":
    main()
