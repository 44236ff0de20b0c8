"""Presets: every size and every design choice of a SAN, as plain numbers side by side.

A preset is all that is needed to build the network; the switches are the paper's ablations (Tables 4-9).
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from san_cli.errors import SanError

PAD_TO = 32  # pixels: the network's input is padded to a multiple of it


@dataclass(frozen=True)
class ClipShape:
    """Sizes of a CLIP with two transformer towers, as `open_clip` builds it."""

    width: int  # of the image tower
    layers: int
    heads: int
    patch_size: int  # pixels
    image_size: int  # pixels: the resolution of pretraining, which fixes the number of positions
    embed_dim: int  # of the space that images and texts share
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int = 77  # tokens
    vocab_size: int = 49408
    quick_gelu: bool = True  # OpenAI's x * sigmoid(1.702 x)
    open_clip_name: str = ""  # the architecture's name in open_clip, where pretrained weights exist


@dataclass(frozen=True)
class Preset:
    """A SAN: a frozen CLIP, a side adapter and how the two are joined (Sec. 3, Fig. 2-4)."""

    name: str
    clip: ClipShape
    input_size: int = 640  # short side of the side adapter's input, pixels
    clip_scale: float = 0.5  # CLIP's input relative to the side adapter's (Table 8: 0.3 0.35 0.5 0.7 1.0)
    feature_layers: int = 9  # CLIP blocks whose features can be fused (Table 5)
    # The last CLIP blocks, which see the attention bias (Table 5; 12 + 12 is the twice-forward baseline).
    recognition_layers: int = 3
    # Table 4: pairs (side-adapter block, CLIP block) of feature fusion; block 0 is the stem, () fuses nothing.
    fusion: tuple[tuple[int, int], ...] = ((0, 0), (1, 3), (2, 6), (3, 9))
    decoupled_head: bool = True  # Table 7: False uses the mask logits as attention bias
    block_clip_gradient: bool = (
        False  # Table 6: True keeps the proposals apart from CLIP (two-stage training)
    )
    train_clip_positions: bool = True  # Table 9
    side_width: int = 240
    side_depth: int = 8
    side_heads: int = 6
    side_patch_size: int = 16  # pixels
    queries: int = 100
    decoder_width: int = 256
    supervised_layers: int = 2  # deep supervision of the last so many side-adapter blocks

    def __post_init__(self) -> None:
        """Refuse combinations that can't be built, in the words of the field."""
        sizes = dataclasses.asdict(self.clip) | dataclasses.asdict(self)
        for name, value in sizes.items():
            if type(value) is int and value < 1 and name != "feature_layers":
                raise SanError(f"preset {self.name}: {name} is {value}, and must be positive")
        if type(self.name) is not str:
            raise SanError(f"a preset's name is text, not {self.name!r}")
        clip = self.clip
        if clip.text_width % clip.text_heads or clip.image_size < clip.patch_size or clip.vocab_size < 49408:
            raise SanError(
                f"preset {self.name}: CLIP's text_width must be a multiple of text_heads, its image_size no smaller "
                "than patch_size, and its vocab_size at least 49408, the tokenizer's"
            )
        if not self.clip_scale > 0:
            raise SanError(f"preset {self.name}: clip_scale is {self.clip_scale:g}, and must be positive")
        if PAD_TO % self.side_patch_size or self.input_size % self.side_patch_size:
            raise SanError(
                f"preset {self.name}: side_patch_size ({self.side_patch_size}) must divide {PAD_TO} and input_size "
                f"({self.input_size})"
            )
        if self.supervised_layers > self.side_depth:
            raise SanError(
                f"preset {self.name}: only {self.side_depth} side-adapter layers can be supervised"
            )
        layers = self.clip.layers
        if not 1 <= self.recognition_layers <= layers or not 0 <= self.feature_layers <= layers:
            raise SanError(
                f"preset {self.name}: feature and recognition layers must lie within CLIP's {layers} blocks"
            )
        if self.feature_layers + self.recognition_layers < layers:
            raise SanError(
                f"preset {self.name}: {self.feature_layers} feature + {self.recognition_layers} recognition layers "
                f"leave CLIP blocks unused ({layers} in all)"
            )
        for side, layer in self.fusion:
            if not 0 <= side < self.side_depth or not 0 <= layer <= self.feature_layers:
                raise SanError(
                    f"preset {self.name}: can't fuse CLIP layer {layer} into side-adapter layer {side}: "
                    f"there are {self.feature_layers} feature layers and {self.side_depth} side-adapter blocks"
                )
        if len({side for side, _ in self.fusion}) != len(self.fusion):
            raise SanError(f"preset {self.name}: two CLIP layers are fused into the same side-adapter layer")
        if self.block_clip_gradient and self.decoupled_head:
            raise SanError(
                f"preset {self.name}: with the gradient from CLIP blocked nothing trains the attention bias",
                hint="Two-stage training (Table 6) needs decoupled_head=false.",
            )
        if self.side_width % self.side_heads or self.clip.width % self.clip.heads:
            raise SanError(f"preset {self.name}: the width must be a multiple of the number of heads")

    def check_input(self, size: int) -> None:
        """SanError where an input of `size` pixels leaves CLIP less than a patch."""
        if self.clip_scale * size < self.clip.patch_size:
            raise SanError(
                f"preset {self.name}: an input of {size} pixels and clip_scale {self.clip_scale:g} leave CLIP less "
                f"than a patch ({self.clip.patch_size} pixels)"
            )

    @property
    def side_grid(self) -> int:
        """Side of the square grid of learned side-adapter positions."""
        return self.input_size // self.side_patch_size

    @property
    def longest_side(self) -> int:
        """The benchmark's cap on the long side of the network input, pixels (2560 at 640)."""
        return 4 * self.input_size


VIT_B_16 = Preset(
    name="vit-b-16",
    clip=ClipShape(
        width=768, layers=12, heads=12, patch_size=16, image_size=224, embed_dim=512,
        text_width=512, text_layers=12, text_heads=8, open_clip_name="ViT-B-16-quickgelu",
    ),
)  # fmt: skip

VIT_L_14 = Preset(
    name="vit-l-14",
    clip=ClipShape(
        width=1024, layers=24, heads=16, patch_size=14, image_size=336, embed_dim=768,
        text_width=768, text_layers=12, text_heads=12, open_clip_name="ViT-L-14-336-quickgelu",
    ),
    clip_scale=0.7,
    feature_layers=18,
    recognition_layers=6,
    fusion=((0, 0), (1, 6), (2, 12), (3, 18)),
)  # fmt: skip

# The paper's structure in small, for the emoji world (`san_cli.datasets.emoji`): scenes of 320 pixels, whose smallest
# things have 48; CLIP sees them as they are, the side adapter enlarged. [SLS] tokens start early: after four of its
# six blocks CLIP's [CLS] is full of the whole picture.
TINY = Preset(
    name="tiny",
    clip=ClipShape(
        width=128, layers=6, heads=4, patch_size=16, image_size=320, embed_dim=128,
        text_width=128, text_layers=3, text_heads=4, quick_gelu=False,
    ),
    input_size=480,
    clip_scale=320 / 480,
    feature_layers=2,
    recognition_layers=4,
    fusion=((0, 0), (1, 1), (2, 2)),
    train_clip_positions=False,  # its CLIP was trained at this resolution
    side_width=192,
    side_depth=6,
    side_heads=3,
    decoder_width=128,
    supervised_layers=4,
)  # fmt: skip

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (VIT_B_16, VIT_L_14, TINY)}


def get_preset(model: "str | Preset") -> Preset:
    """The preset of that name, or in that JSON file; a preset passes through. Raises SanError."""
    if isinstance(model, Preset):
        return model
    if model.endswith(".json"):
        return _read_preset(Path(model))
    if model not in PRESETS:
        raise SanError(f"unknown model '{model}'", hint=f"Known models: {', '.join(PRESETS)}.")
    return PRESETS[model]


def _read_preset(path: Path) -> Preset:
    """A preset of the user's own: `name`, `clip` and whichever other fields differ from their defaults."""
    try:
        return preset_from_json(path.read_text())
    except OSError as error:
        raise SanError(f"can't read the preset '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SanError(f"'{path}' is no preset: it is not text") from error
    except SanError as error:
        raise SanError(
            f"'{path}' is no preset ({error.message})",
            hint="It is JSON with a name, a clip {width, layers, heads, …} and other fields of Preset.",
        ) from error


def preset_to_json(preset: Preset) -> str:
    """One line of JSON that `preset_from_json` reads back, as stored in a checkpoint's header."""
    return json.dumps(dataclasses.asdict(preset), sort_keys=True, separators=(",", ":"))


def preset_from_json(text: str) -> Preset:
    """The preset written by `preset_to_json`. Raises SanError on anything else."""
    try:
        fields: dict[str, Any] = json.loads(text)
        fields["clip"] = ClipShape(**fields["clip"])
        if "fusion" in fields:
            fields["fusion"] = tuple((int(side), int(clip)) for side, clip in fields["fusion"])
        return Preset(**fields)
    except (TypeError, ValueError, KeyError, ArithmeticError, AttributeError) as error:
        raise SanError(f"the preset in the checkpoint's header can't be read ({error})") from error
