"""How long new words take: CLIP's text tower over whole prompts, word by word, beside the way that `san` goes.

    MKL_CBWR=AUTO,STRICT python scripts/bench_words.py [--model vit-b-16] [--templates vild] [--words 40] [--rounds 5]

Both sides alternate in one process; weights are random. The program sets MKL_CBWR itself; without it words go through
the tower one at a time.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.engine.device import reuse_freed_memory
from san_cli.models.presets import get_preset
from san_cli.models.text import TextEncoder
from san_cli.vocabulary.grammar import parse_vocabulary
from san_cli.vocabulary.templates import templates
from san_cli.weights.checkpoint import random_checkpoint


@torch.inference_mode()
def plainly(
    encoder: TextEncoder, words: Sequence[str], prompts: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    """Embed each word by itself, its prompts as long as the longest."""
    tower = encoder.tower
    for word in words:
        tokens = encoder.tokenizer([prompt.replace("{}", word) for prompt in prompts])
        end = tokens.argmax(dim=-1)
        length = int(end.max()) + 1
        x = tower.token_embedding(tokens[:, :length]) + tower.positional_embedding[:length]
        causal = torch.full((length, length), float("-inf")).triu(1)
        for block in tower.transformer.resblocks:
            x = block(x, attn_mask=causal)
        found = tower.ln_final(x)[torch.arange(len(x)), end] @ tower.text_projection
        yield word, F.normalize(F.normalize(found, dim=-1).mean(dim=0), dim=-1)


def main() -> None:
    """Print both times, their ratio and the largest difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit-b-16")
    parser.add_argument("--templates", default="vild")
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    reuse_freed_memory()
    preset = get_preset(options.model)
    encoder = TextEncoder(preset.clip, random_checkpoint(preset).part("text"), torch.device("cpu"))
    words = parse_vocabulary(["ade847"]).words[: options.words]
    prompts = templates(options.templates)
    ways = {
        "plain": lambda: plainly(encoder, words, prompts),
        "ours": lambda: encoder.embed_each(words, prompts),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    rows: dict[str, dict[str, Tensor]] = {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            rows[name] = dict(way())
            took[name].append(time.perf_counter() - start)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for name, seconds in took.items():
        each = [1000 * s / len(words) for s in seconds]
        print(f"{name}: {statistics.median(each):.1f} ms a word ({min(each):.1f}-{max(each):.1f})")
    ratios = [plain / ours for plain, ours in zip(took["plain"], took["ours"], strict=True)]
    apart = max(float((rows["plain"][word] - rows["ours"][word]).abs().max()) for word in words)
    print(
        f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f}), {apart:.1e} apart"
    )


if __name__ == "__main__":
    main()
