"""Text embeddings of class names: CLIP's text tower over prompt templates (Sec. 3; ViLD's 14 by default)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor

from san_cli.models.clip import build_text_tower
from san_cli.models.presets import ClipShape


class TextEncoder:
    """CLIP's frozen text tower with its tokenizer."""

    def __init__(self, shape: ClipShape, state: Mapping[str, Tensor], device: torch.device) -> None:
        with torch.device("meta"):
            tower = build_text_tower(shape)
        tower.load_state_dict(dict(state), strict=True, assign=True)
        tower.attn_mask = None  # ours is made to the prompts' length
        self.tower = tower.to(device=device, dtype=torch.float32).eval()
        self.tokenizer = SimpleTokenizer(context_length=shape.context_length)
        self.device = device

    @torch.inference_mode()
    def embed(self, word: str, templates: Sequence[str]) -> Tensor:
        """The embedding [D] of a word, float32, normalised: the mean over templates of normalised prompts.

        One word at a time, so that a word's embedding never depends on the vocabulary around it.
        """
        tokens = self.tokenizer([template.replace("{}", word) for template in templates])  # [T, 77]
        prompts = F.normalize(encode_prompts(self.tower, tokens.to(self.device)), dim=-1)
        mean = prompts.mean(dim=0)
        return (mean / mean.norm()).cpu()


def encode_prompts(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """CLIP's text features [P, D], not normalised, of token ids [P, 77].

    The padding after the longest prompt is cut off: the tower is causal and its output is read at the
    end-of-text token (the largest id), so nothing can depend on what follows.
    """
    end = tokens.argmax(dim=-1)
    length = int(end.max()) + 1
    x = tower.token_embedding(tokens[:, :length]) + tower.positional_embedding[:length]  # [P, length, width]
    causal = torch.full((length, length), float("-inf"), device=x.device, dtype=x.dtype).triu(1)
    x = tower.ln_final(tower.transformer(x, attn_mask=causal))
    return x[torch.arange(len(x), device=x.device), end] @ tower.text_projection
