"""Train the CLIP of the `tiny` preset from nothing, on rendered emoji pictures and their captions.

    torchrun --nproc-per-node 2 scripts/train_tiny_clip.py --out runs/tiny-clip

Captions name concepts from the whole list. The network is given pictures and captions, never a mask; which captions
are right is read off the scene's labels. Beside the picture, random rectangular crops of it have captions, too: what
a crop shows is told apart by attention, so that the picture is computed once.

Training starts with small pictures (objects at the same number of pixels, fewer patches around them) and ends at
the preset's size. Run the command again to go on after an interruption, or with longer --phases to prolong.
FOLDER/tiny_clip.safetensors is the result, under open_clip's tensor names.

One process a core, one thread each: matrices this small gain little from a second thread. Every process contrasts its
own pictures; their gradients are averaged. An interrupted run goes on with other pictures than it would have had.
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
from san_cli.models.clip import build_image_tower, build_text_tower, clip_features, recognise_regions
from san_cli.models.presets import TINY
from san_cli.models.san import normalise
from san_cli.models.text import encode_prompts
from san_cli.templates import VILD

STATE = "state.pt"
OPENINGS = ("", "a photo of ", "There is ", "a picture of ")
RELATIONS = (" on ", " in front of ", " and ")
PHASES = "80:320000,112:240000,160:100000,224:30000,320:10000"  # pixels:pictures
TRAIN_SEED, VALIDATION_SEED = 20_000, 30_000  # of scenes; other seeds are for SAN
SMALLEST = 32  # pixels, the longer side of an emoji
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun
CROPS = 6  # of a picture, beside the whole
OUTSIDE = -10.0  # attention bias of the patches outside of a crop


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

    def crops(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """Normalised embeddings [B, K, D], float32, of K crops of each picture, uint8 RGB [B, 3, H, W].

        `boxes` [B, K, h, w] (bool) are the patches of each crop: all of them is open_clip's `encode_image`.
        """
        features, grid = clip_features(self.visual, normalise_unpadded(pixels), TINY)
        bias = torch.where(boxes, 0.0, OUTSIDE)[:, None].expand(-1, TINY.clip.heads, -1, -1, -1)
        return F.normalize(recognise_regions(self.visual, features, grid, bias, TINY).float(), dim=-1)

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
    validate = Validation(size) if RANK == 0 else None
    meter, done = Meter(), pictures.start

    def keep() -> None:
        if validate is not None:
            things, grounds = validate(clip)
            _log(f"{done:8d} VALIDATION {size} px  top-1 {things:.1%} emoji, {grounds:.1%} grounds")
            _save(args.out / STATE, clip, optimizer, done)

    for batch in batches(size, pictures, args.batch):
        rate, seen = learning_rate(done, total, args.lr), PROCESSES * len(batch.images)
        others = other_captions(np.random.default_rng((TRAIN_SEED, 1, done + RANK)), len(batch.images))
        meter.add(train_step(clip, optimizer, batch, others, rate), seen)
        before, done = done, done + seen
        if done // 5_000 > before // 5_000:
            scale = clip.logit_scale.exp().item()
            _log(f"{done:8d} pictures  {size} px  {meter.read()}  lr {rate:.2e}  scale {scale:.1f}")
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


@dataclass(frozen=True)
class Batch:
    """Pictures with their crops, what these hold, and captions of them."""

    images: Tensor  # uint8 [B, 3, H, W]
    boxes: Tensor  # bool [B, K, h, w], patches; the first crop is the whole picture
    holds: Tensor  # float 0/1 [B, K, C]: the concepts that can be seen in a crop
    lacks: Tensor  # float 0/1 [B, K, C]: those that can't; of the rest only a bit is there
    captions: list[Caption]

    def mirrored(self, captions: list[Caption]) -> "Batch":
        """The same seen in a mirror, with other captions."""
        return replace(self, images=self.images.flip(-1), boxes=self.boxes.flip(-1), captions=captions)


class Captioned(Dataset):
    """Pictures with crops, as a batch of one, and a second list of captions."""

    def __init__(self, size: int) -> None:
        low = SMALLEST / size
        self.kinds = [
            EmojiScenes(TRAIN_SEED, all_ids(), size, layout)
            for layout in (
                Layout(count=(1, 1), scale=(low, 1.1), margin=0.15, two_backgrounds=0.1),
                Layout(scale=(min(low, 0.4), 0.7)),
                Layout(count=(0, 0), two_backgrounds=0),
            )
        ]

    def __getitem__(self, index: int) -> tuple[Batch, list[Caption]]:
        rng = np.random.default_rng((TRAIN_SEED, index))
        scene = self.kinds[int(rng.choice(3, p=(0.25, 0.7, 0.05)))][index]
        boxes = crops(rng, scene.labels)
        found = [seen_in(scene.labels, box) for box in boxes]
        held, lacking = (torch.stack(parts) for parts in zip(*found, strict=True))
        first, second = (captions(rng, held) for _ in range(2))
        image = torch.from_numpy(scene.image).permute(2, 0, 1)
        return Batch(image[None], torch.stack(boxes)[None], held[None], lacking[None], first), second


def crops(rng: np.random.Generator, labels: np.ndarray) -> list[Tensor]:
    """The whole picture and rectangles in it of random size, place and shape, as patches [h, w].

    Of those that show a background alone, most are drawn again.
    """
    side = len(labels) // TINY.clip.patch_size
    boxes = [torch.ones(side, side, dtype=torch.bool)]
    while len(boxes) <= CROPS:
        height = math.exp(rng.uniform(math.log(2), math.log(side)))
        width = height * math.exp(rng.normal(0, 0.3))
        rows, columns = (min(side, max(2, round(length))) for length in (height, width))
        top, left = rng.integers(side - rows + 1), rng.integers(side - columns + 1)
        box = torch.zeros(side, side, dtype=torch.bool)
        box[top : top + rows, left : left + columns] = True
        if rng.random() < 0.3 or any(concepts()[i].emoji for i in np.unique(inside(labels, box))):
            boxes.append(box)
    return boxes


def inside(labels: np.ndarray, box: Tensor) -> np.ndarray:
    """The part of a label map under a rectangle of patches."""
    rows, columns = torch.where(box)
    patch = TINY.clip.patch_size
    return labels[
        patch * int(rows.min()) : patch * (int(rows.max()) + 1),
        patch * int(columns.min()) : patch * (int(columns.max()) + 1),
    ]


def seen_in(labels: np.ndarray, box: Tensor) -> tuple[Tensor, Tensor]:
    """0/1 [C] twice: what someone would say is in a crop, and what certainly isn't."""
    part = inside(labels, box)
    count = len(concepts())
    within = np.bincount(part.ravel(), minlength=count)
    area, extent = within / part.size, within / np.maximum(1, np.bincount(labels.ravel(), minlength=count))
    things = np.array([bool(concept.emoji) for concept in concepts()])
    held = np.where(things, (area >= 0.2) | ((extent >= 0.6) & (area >= 0.02)), area >= 0.6)
    lacking = ~held & np.where(things, (area < 0.02) & (extent < 0.1), area < 0.45)
    return torch.from_numpy(held).float(), torch.from_numpy(lacking).float()


def captions(rng: np.random.Generator, held: Tensor) -> list[Caption]:
    """A sentence about the picture, and one for each crop that names one of the things in it.

    `held` [K, C] are the concepts in each crop, the whole picture first. A picture or crop that holds nothing for
    certain has no caption.
    """
    sentences = []
    for number, row in enumerate(held):
        single = row.nonzero().flatten().tolist()
        things = [i for i in single if concepts()[i].emoji]
        if number == 0 and single:
            sentences.append(caption(rng, things[:4], [i for i in single if not concepts()[i].emoji]))
        elif single:
            some = things or single
            chosen = some[rng.integers(len(some))]
            sentences.append((_sentence(rng, _word(rng, chosen)), (chosen,)))
    return sentences


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
    if grounds and (len(words) == 1 or rng.random() < 0.3):
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


def batches(size: int, pictures: range, batch: int) -> Iterator[Batch]:
    """This process's share, in whole batches, of these numbers of pictures; the last may reach past the end.

    Rendering costs a good part of training, so that every picture comes twice: some batches later it is seen again,
    mirrored and with other captions.
    """
    rounds = math.ceil(len(pictures) / (batch * PROCESSES) / 2)
    first = pictures.start // 2
    indices = range(first + RANK, first + RANK + rounds * batch * PROCESSES, PROCESSES)
    loader = DataLoader(Captioned(size), batch, sampler=indices, collate_fn=_collate)
    held: deque[Batch] = deque()
    for now, later in loader:
        yield now
        held.append(later)
        if len(held) > 8:
            yield held.popleft()
    yield from held


def _collate(samples: list[tuple[Batch, list[Caption]]]) -> tuple[Batch, Batch]:
    parts = [sample for sample, _ in samples]
    tensors = [
        torch.cat([getattr(part, name) for part in parts]) for name in ("images", "boxes", "holds", "lacks")
    ]
    now = Batch(*tensors, [one for part in parts for one in part.captions])
    return now, now.mirrored([one for _, later in samples for one in later])


def train_step(
    clip: TinyClip, optimizer: torch.optim.Optimizer, batch: Batch, others: list[Caption], rate: float
) -> float:
    """One step of AdamW at learning rate `rate`; `others` are captions drawn without a picture. The loss."""
    unique = dict([*batch.captions, *others])
    for group in optimizer.param_groups:
        group["lr"] = rate
    # Plain attention: the fused kernel's backward is several times slower on CPUs at so few tokens.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image_features = clip.crops(batch.images, batch.boxes).flatten(0, 1)
        text_features = clip.texts(list(unique))
    logits = clip.logit_scale.exp() * image_features @ text_features.T
    mentioned = _mentions(list(unique.values()))
    loss = contrastive_loss(logits, batch.holds.flatten(0, 1), batch.lacks.flatten(0, 1), mentioned)
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


def _mentions(named: Sequence[tuple[int, ...]]) -> Tensor:
    """0/1 [captions, concepts]."""
    rows = torch.zeros(len(named), len(concepts()))
    for row, mentioned in zip(rows, named, strict=True):
        row[list(mentioned)] = 1
    return rows


def contrastive_loss(logits: Tensor, holds: Tensor, lacks: Tensor, mentions: Tensor) -> Tensor:
    """CLIP's symmetric loss [] with several right answers.

    `logits` [B, T] of pictures (crops) and distinct captions; `holds` and `lacks` [B, C] say which concepts a
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


def learning_rate(done: int, total: int, peak: float) -> float:
    """Linear warm-up over 30,000 pictures, then half a cosine down to 2 % of the peak."""
    progress = min(1.0, done / total)
    return peak * min(1.0, (done + 1_000) / 30_000) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


class Validation:
    """Zero-shot top-1 over all names on crops of scenes never trained on; whatever they show is right."""

    def __init__(self, size: int, scenes: int = 150) -> None:
        drawn = [EmojiScenes(VALIDATION_SEED, all_ids(), size)[i] for i in range(scenes)]
        self.images = torch.from_numpy(np.stack([scene.image for scene in drawn])).permute(0, 3, 1, 2)
        rng = np.random.default_rng(VALIDATION_SEED)
        boxes = [crops(rng, scene.labels)[1:] for scene in drawn]
        self.boxes = torch.stack([torch.stack(of_scene) for of_scene in boxes])
        held = torch.stack(
            [seen_in(s.labels, box)[0] for s, of in zip(drawn, boxes, strict=True) for box in of]
        )
        self.truth, self.things = held, held[:, : sum(bool(concept.emoji) for concept in concepts())].any(1)

    @torch.inference_mode()
    def __call__(self, clip: TinyClip) -> tuple[float, float]:
        """Shares of crops with a thing and of crops of a background that are named right."""
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            texts = clip.texts([f"a photo of a {concept.name}." for concept in concepts()])
            parts = zip(self.images.split(50), self.boxes.split(50), strict=True)
            found = torch.cat([clip.crops(*part).flatten(0, 1) for part in parts])
        right = self.truth.gather(1, (found @ texts.T).argmax(1, keepdim=True))[:, 0]
        grounds = self.truth.any(1) & ~self.things
        return right[self.things].mean().item(), right[grounds].mean().item()


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
