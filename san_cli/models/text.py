"""Text embeddings of class names: CLIP's text tower over prompt templates (Sec. 3; ViLD's 14 by default)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from san_cli.models.clip import build_text_tower
from san_cli.models.presets import ClipShape
from san_cli.models.towers import TextTransformer

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

_TOGETHER = 4  # words; a product's weights are then read as fast as they are multiplied
_BUCKET = 16  # prompts' lengths are rounded up to multiples, for attention's kernel and for words to be alike


class TextEncoder:
    """CLIP's frozen text tower with its tokenizer."""

    def __init__(self, shape: ClipShape, state: Mapping[str, Tensor], device: torch.device) -> None:
        with torch.device("meta"):
            tower = build_text_tower(shape)
        tower.load_state_dict(dict(state), strict=True, assign=True)
        self.tower = tower.to(device=device, dtype=torch.float32).eval()
        self.tokenizer = tokenizer_of(shape.context_length)
        self.device = device
        self._together = _TOGETHER if device.type == "cpu" and _rows_are_independent() else 1

    def embed(self, word: str, templates: Sequence[str]) -> Tensor:
        """Embed a word: [D], float32, normalised, the mean over templates of normalised prompts."""
        return next(self.embed_each([word], templates))[1]

    @torch.inference_mode()
    def embed_each(self, words: Sequence[str], templates: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield each word with its embedding, as `embed` makes it; words of alike length follow each other.

        What a template says before the word goes through the tower once for all words, and then only the word and
        what follows it.
        """
        beginnings = self._tokens([template.partition("{}")[0] for template in templates])
        begun = begin_prompts(self.tower, beginnings)
        by_length: dict[int, list[tuple[str, Tensor]]] = {}
        for word in words:
            tokens = self._tokens([template.replace("{}", word) for template in templates])  # [T, 77]
            by_length.setdefault(_padded_length(tokens.argmax(dim=-1)), []).append((word, tokens))
        for alike in by_length.values():
            for start in range(0, len(alike), self._together):
                chunk = alike[start : start + self._together]
                tokens = torch.cat([tokens for _, tokens in chunk])  # [W*T, 77]
                features = encode_prompts(self.tower, tokens, beginnings, begun)  # [W*T, D]
                prompts = F.normalize(features, dim=-1)
                for (word, _), own in zip(chunk, prompts.split(len(templates)), strict=True):
                    mean = own.mean(dim=0)
                    yield word, (mean / mean.norm()).cpu()

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        """Make tokens [T, 77] of texts."""
        return self.tokenizer(list(texts)).to(self.device)


def tokenizer_of(context_length: int) -> "SimpleTokenizer":
    """Load CLIP's tokenizer. With it comes all of open_clip, which takes seconds, so only new words ask for it."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=context_length)


def _rows_are_independent() -> bool:
    """Tell whether a row of a matrix product is the same to the bit whatever the number of the others.

    An embedding must not depend on the vocabulary around it. MKL in its strict mode, which the program sets, keeps to
    that (tests/models/test_text.py); in its other modes it doesn't, and of other libraries it isn't known.
    """
    return torch.backends.mkl.is_available() and "STRICT" in os.environ.get("MKL_CBWR", "")


def _padded_length(end: Tensor) -> int:
    """Round up the length of the longest prompt, from the places [P] of their last tokens."""
    return (int(end.max()) // _BUCKET + 1) * _BUCKET


def encode_prompts(
    tower: TextTransformer,
    tokens: Tensor,
    beginnings: Tensor | None = None,
    begun: Sequence[Tensor] | None = None,
) -> Tensor:
    """Encode token ids [P, 77] as CLIP's text features [P, D], not normalised.

    The output is read at the end-of-text token (the largest id), and the tower is causal: so what follows it is left
    out. What `begin_prompts` made of `beginnings` [T, 77] isn't computed again; P is a multiple of T, and the prompts
    that begin so take turns.
    """
    end = tokens.argmax(dim=-1, keepdim=True)
    if beginnings is None or begun is None:
        begun, known = _nothing(tower, len(tokens)), torch.zeros_like(end)
    else:
        same = tokens == beginnings.repeat(len(tokens) // len(beginnings), 1)
        known = same.cumprod(dim=-1).sum(dim=-1, keepdim=True).minimum(end)
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    new = (known <= place) & (place <= end)
    x, _ = _read(tower, tokens, new, begun)
    last = new.sum(dim=-1).cumsum(dim=0) - 1  # the rows of the prompts' last tokens
    return tower.ln_final(x[last]) @ tower.text_projection


def begin_prompts(tower: TextTransformer, beginnings: Tensor) -> list[Tensor]:
    """Read the beginnings [T, 77] of prompts for `encode_prompts`: each block's queries, keys and values."""
    place = torch.arange(beginnings.shape[-1], device=beginnings.device)
    new = place < beginnings.argmax(dim=-1, keepdim=True)  # the end of text doesn't belong to them
    return _read(tower, beginnings, new, _nothing(tower, len(beginnings)))[1]


def _nothing(tower: TextTransformer, prompts: int) -> list[Tensor]:
    """No tokens' queries, keys and values in each block."""
    weights = [block.attn.in_proj_weight for block in tower.transformer.resblocks]
    return [weight.new_zeros(prompts, 0, len(weight)) for weight in weights]


def _read(
    tower: TextTransformer, tokens: Tensor, new: Tensor, before: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Take the `new` (bool) ones of the tokens [P, 77] through all blocks; each prompt has some, without a gap.

    `before` are the queries, keys and values of those before them in each block, [T, length, 3 * width]. Returns the
    new tokens [N, width], prompt by prompt, and all queries, keys and values.
    """
    where = new.nonzero(as_tuple=True)
    length = _padded_length(where[1])
    x = tower.token_embedding(tokens[where]) + tower.positional_embedding[where[1]]  # [N, width]
    through = []
    for block, known in zip(tower.transformer.resblocks, before, strict=True):
        attn = block.attn
        padded = F.pad(known, (0, 0, 0, length - known.shape[1]))  # or cut
        projected = padded.repeat(len(tokens) // len(padded), 1, 1)  # [P, length, 3 * width]
        own = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        projected[where] = own.to(projected.dtype)  # autocast's is another
        through.append(projected)
        query, key, value = projected.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        # [P, heads, length, width/heads]
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + attn.out_proj(seen.transpose(1, 2).flatten(2)[where])
        x = x + block.mlp(block.ln_2(x))
    return x, through
