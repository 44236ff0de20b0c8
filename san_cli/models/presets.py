"""Presets: every size and every design choice of a SAN, as plain numbers side by side.

A preset is all that is needed to build the network; the switches are the paper's ablations (Tables 4-9).
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from san_cli.errors import SanError, did_you_mean
from san_cli.text import nearest, printable, quoted

PAD_TO = 32  # pixels: the network's input is padded to a multiple of it

# The most of each number, so that a slip is told at once: without a bound, building such a network takes minutes or
# all memory. Each is several times what any published CLIP or SAN has.
_MOST = {
    "width": 8192, "layers": 128, "heads": 256, "patch_size": 256, "image_size": 4096, "embed_dim": 8192,
    "text_width": 8192, "text_layers": 128, "text_heads": 256, "context_length": 1024, "vocab_size": 2**20,
    "input_size": 8192, "clip_scale": 32, "feature_layers": 128, "recognition_layers": 128, "side_width": 8192,
    "side_depth": 128, "side_heads": 256, "side_patch_size": PAD_TO, "queries": 10_000, "decoder_width": 8192,
    "supervised_layers": 128,
}  # fmt: skip
_MOST_TOKENS = 512  # on a side of an image's grid: attention between 512² tokens is beyond any machine
_MOST_PARAMETERS = 3 * 10**9  # the largest published CLIP has 2.5; 12 GB in float32
_LONGEST_NAME = 100
_LONGEST_JSON = 2**20  # bytes


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
        if type(self.name) is not str or not self.name or len(self.name) > _LONGEST_NAME:
            raise SanError(f"a preset's name is text of at most {_LONGEST_NAME} characters")
        if not isinstance(self.clip, ClipShape):
            raise SanError(f"preset {self.name}: clip is no object with width, layers and so on")
        for part in (self.clip, self):
            _check_kinds(self.name, part)
        clip = self.clip
        if clip.text_width % clip.text_heads or clip.image_size < clip.patch_size or clip.vocab_size < 49408:
            raise SanError(
                f"preset {self.name}: CLIP's text_width must be a multiple of text_heads, its image_size no smaller "
                "than patch_size, and its vocab_size at least 49408, the tokenizer's"
            )
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
        self._check_extent()

    def _check_extent(self) -> None:
        """Refuse what no machine can build, though each number by itself may be right."""
        clip = self.clip
        grids = {
            "image_size / patch_size": clip.image_size / clip.patch_size,
            "clip_scale x input_size / patch_size": self.clip_scale * self.input_size / clip.patch_size,
            "input_size / side_patch_size": self.side_grid,
        }
        for name, side in grids.items():
            if side > _MOST_TOKENS:
                raise SanError(
                    f"preset {self.name}: {name} is {side:,.0f}, and can be {_MOST_TOKENS} at most"
                )
        blocks = (
            (clip.width, clip.layers),
            (clip.text_width, clip.text_layers),
            (self.side_width, self.side_depth),
        )
        parameters = sum(12 * width**2 * depth for width, depth in blocks) + clip.vocab_size * clip.text_width
        if parameters > _MOST_PARAMETERS:
            raise SanError(
                f"preset {self.name}: widths and depths come to {parameters / 1e9:,.1f}·10⁹ parameters, and can to "
                f"{_MOST_PARAMETERS / 1e9:.0f}·10⁹ at most"
            )

    def check_input(self, size: int) -> None:
        """Raise SanError where an input of `size` pixels leaves CLIP less than a patch."""
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


def _check_kinds(name: str, part: ClipShape | Preset) -> None:
    """Raise SanError for a field that is of another kind than its type says, or out of bounds."""
    for field in dataclasses.fields(part):
        value, most = getattr(part, field.name), _MOST.get(field.name)
        shown = f"preset {name}: {field.name} is {value!r:.60}"
        if most is not None:
            whole = field.type is int
            if type(value) is not int and (whole or type(value) is not float):
                raise SanError(f"{shown}, and must be a {'whole ' * whole}number")
            positive = value >= 0 if field.name == "feature_layers" else value > 0
            if not (positive and value <= most):
                raise SanError(f"{shown}, and must be positive and at most {most:,}")
        elif field.type is bool and type(value) is not bool:
            raise SanError(f"{shown}, and must be true or false")
        elif field.name == "open_clip_name" and (type(value) is not str or len(value) > _LONGEST_NAME):
            raise SanError(f"{shown}, and must be a short text")
        elif field.name == "fusion" and not _are_pairs(value):
            raise SanError(f"{shown}, and must be pairs of whole numbers")


def _are_pairs(value: Any) -> bool:
    pairs = isinstance(value, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value)
    return pairs and all(type(number) is int for pair in value for number in pair)


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


def own_vocabulary(preset: Preset) -> str:
    """Name the built-in vocabulary of a model's world: emoji for tiny's CLIP, whatever was trained on from it."""
    return "emoji" if preset.clip == TINY.clip else "coco"


def get_preset(model: "str | Preset") -> Preset:
    """Find the preset of that name, or in that JSON file; a preset passes through. Raises SanError."""
    if isinstance(model, Preset):
        return model
    if model.endswith(".json"):
        return _read_preset(Path(model))
    if model not in PRESETS:
        raise SanError(f"unknown model {quoted(model)}", hint=_meant(model))
    return PRESETS[model]


def _meant(model: str) -> str:
    """Hint at the model meant by a name that is none: ViT-B/16, vit_b_16 and ViT-L/14@336px have one all the same."""
    if model.endswith((".pth", ".pt", ".safetensors")):
        return f"That is a file: --weights {printable(model)}"
    plain = re.sub(r"[\W_]+", "", model.casefold())
    contained = [name for name in PRESETS if name.replace("-", "") in plain]
    likely = contained[0] if contained else nearest(model, PRESETS, 0.7)
    return did_you_mean(likely, f"There are {', '.join(PRESETS)}, or a preset of your own in a .json file.")


def _read_preset(path: Path) -> Preset:
    """Read a preset of the user's own: `name`, `clip` and whichever other fields differ from their defaults."""
    try:
        if path.exists() and not path.is_file():
            raise SanError(f"can't read the preset '{path}': it is no file")  # and a pipe would be waited for
        with path.open("rb") as file:
            content = file.read(_LONGEST_JSON + 1)
        if len(content) > _LONGEST_JSON:
            raise SanError(f"'{path}' is no preset: it is far too large")
        return _parsed(content.decode("utf-8-sig"))
    except OSError as error:
        raise SanError(f"can't read the preset '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SanError(f"'{path}' is no preset: it is not text") from error
    except ValueError as error:
        raise SanError(
            f"'{path}' is no preset ({error})",
            hint="It is JSON with a name, a clip {width, layers, heads, …} and other fields of Preset.",
        ) from error


def preset_to_json(preset: Preset) -> str:
    """Write one line of JSON that `preset_from_json` reads back, as stored in a checkpoint's header."""
    return json.dumps(dataclasses.asdict(preset), sort_keys=True, separators=(",", ":"))


def preset_from_json(text: str) -> Preset:
    """Read the preset written by `preset_to_json`. Raises SanError on anything else."""
    try:
        return _parsed(text)
    except ValueError as error:
        raise SanError(f"the preset in the checkpoint's header can't be read ({error})") from error


def _parsed(text: str) -> Preset:
    """Parse the preset in JSON. ValueError on anything else."""
    try:
        fields = json.loads(text)
        clip = fields.get("clip") if isinstance(fields, dict) else None
        if not isinstance(clip, dict):
            raise ValueError("it is no JSON object with a name and a clip {width, layers, …}")
        for part, known in ((fields, Preset), (clip, ClipShape)):
            _check_names(part, known)
        pairs = fields.get("fusion", Preset.fusion)
        fusion = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs) if pairs else ()
        return Preset(**fields | {"clip": ClipShape(**clip), "fusion": fusion})
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except SanError as error:
        raise ValueError(error.message) from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def _check_names(found: dict[str, Any], known: type[Preset] | type[ClipShape]) -> None:
    """Raise ValueError for a field that is missing or unknown."""
    fields = {field.name: field for field in dataclasses.fields(known)}
    odd = sorted(found.keys() - fields.keys())
    if odd:
        raise ValueError(f"it has the unknown field '{odd[0]:.80}'")
    missing = [
        name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in found
    ]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
