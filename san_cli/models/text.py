"""Text embeddings of class names: CLIP's text tower over prompt templates (Sec. 3; ViLD's 14 by default)."""

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

_TOGETHER = 4  # words; 8 and 16 take as long for each, and 32 longer


class TextEncoder:
    """CLIP's frozen text tower with its tokenizer."""

    def __init__(self, shape: ClipShape, state: Mapping[str, Tensor], device: torch.device) -> None:
        with torch.device("meta"):
            tower = build_text_tower(shape)
        tower.load_state_dict(dict(state), strict=True, assign=True)
        self.tower = tower.to(device=device, dtype=torch.float32).eval()
        self.tokenizer = tokenizer_of(shape.context_length)
        self.device = device
        # An embedding must not depend on the vocabulary around it. With MKL a word's bits are the same in any company
        # of prompts as long as its own (tests/models/test_text.py); of others that isn't known.
        self._together = _TOGETHER if device.type == "cpu" and torch.backends.mkl.is_available() else 1

    def embed(self, word: str, templates: Sequence[str]) -> Tensor:
        """Embed a word: [D], float32, normalised, the mean over templates of normalised prompts."""
        return next(self.embed_each([word], templates))[1]

    @torch.inference_mode()
    def embed_each(self, words: Sequence[str], templates: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield each word with its embedding, as `embed` makes it; words of equally long prompts follow each other.

        On CPUs several go through the tower together, in 60 to 80 % of the time.
        """
        by_length: dict[int, list[tuple[str, Tensor]]] = {}
        for word in words:
            tokens = self.tokenizer([template.replace("{}", word) for template in templates])  # [T, 77]
            by_length.setdefault(int(tokens.argmax(dim=-1).max()), []).append((word, tokens))
        for alike in by_length.values():
            for start in range(0, len(alike), self._together):
                chunk = alike[start : start + self._together]
                tokens = torch.cat([tokens for _, tokens in chunk]).to(self.device)  # [W*T, 77]
                prompts = F.normalize(encode_prompts(self.tower, tokens), dim=-1)  # [W*T, D]
                for (word, _), own in zip(chunk, prompts.split(len(templates)), strict=True):
                    mean = own.mean(dim=0)
                    yield word, (mean / mean.norm()).cpu()


def tokenizer_of(context_length: int) -> "SimpleTokenizer":
    """Load CLIP's tokenizer. With it comes all of open_clip, which takes seconds, so only new words ask for it."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=context_length)


def encode_prompts(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """Encode token ids [P, 77] as CLIP's text features [P, D], not normalised.

    The padding after the longest prompt is cut off: the tower is causal and its output is read at the
    end-of-text token (the largest id), so nothing can depend on what follows.
    """
    end = tokens.argmax(dim=-1)
    length = int(end.max()) + 1
    x = tower.token_embedding(tokens[:, :length]) + tower.positional_embedding[:length]  # [P, length, width]
    causal = torch.full((length, length), float("-inf"), device=x.device, dtype=x.dtype).triu(1)
    x = tower.ln_final(tower.transformer(x, attn_mask=causal))
    return x[torch.arange(len(x), device=x.device), end] @ tower.text_projection
