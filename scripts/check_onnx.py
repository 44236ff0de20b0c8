"""How near the ONNX file comes to PyTorch: logits and label maps at several sizes of image, by every runtime here.

python scripts/check_onnx.py tiny vit-b-16 vit-l-14 [--folder FILES]

Sizes that divide and that don't, long ones, and a batch. vit-b-16 and vit-l-14 have random weights. OpenVINO is asked
where it is installed (`pip install openvino`). Ends with 1 where a logit differs by more than 1e-4 (and by more than
twice what PyTorch's float32 differs from float64), or a label whose score is more than 1e-3 above the second best.
"""

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from san_cli import Segmenter
from san_cli.engine.loading import load_weights
from san_cli.engine.mask_blocks import Frame
from san_cli.engine.onnx_export import write_onnx
from san_cli.engine.onnx_file import INPUTS, OUTPUTS
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.models.san import SAN, normalise
from san_cli.vocabulary.templates import templates

_LOGITS, _MARGIN = 1e-4, 1e-3
_WORDS = 20
_SCENES = Path(__file__).parent.parent / "examples" / "scenes"
_SIZES = [  # of tiny, batch × height × width; the grid of 10 × 90 has as many patches as the learned 30 × 30
    *((1, 480, 480), (1, 640, 640), (1, 224, 320), (3, 320, 224), (1, 256, 448), (2, 96, 64), (1, 160, 1440)),
]
_LARGE_SIZES = [(1, 640, 640), (1, 640, 864), (2, 320, 224), (1, 256, 448), (1, 160, 2560), (1, 96, 64)]

Run = Callable[[Tensor, Tensor], list[np.ndarray]]  # image and text to `OUTPUTS`


def onnxruntime_run(path: Path) -> Run:
    """Open a file in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda *given: session.run(
        list(OUTPUTS), {n: t.numpy() for n, t in zip(INPUTS, given, strict=True)}
    )


def openvino_run(path: Path) -> Run:
    """Open a file in OpenVINO, in float32."""
    import openvino

    core = openvino.Core()
    compiled: Any = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(*given: Tensor) -> list[np.ndarray]:
        found = compiled({n: t.numpy() for n, t in zip(INPUTS, given, strict=True)})
        return [np.array(found[name]) for name in OUTPUTS]

    return run


def images(batch: int, height: int, width: int) -> Tensor:
    """Make an input [B, 3, H, W] of scenes from the examples, squeezed to a size."""
    paths = sorted(_SCENES.iterdir())[:batch]
    pixels = [np.array(Image.open(path).convert("RGB").resize((width, height))) for path in paths]
    return normalise(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def compare(
    expected: list[Tensor], found: list[np.ndarray], size: tuple[int, int]
) -> tuple[float, float, int, int]:
    """Return the largest differences in mask and class logits, differing labels, and those beyond the margin."""
    got = [torch.from_numpy(part) for part in found]
    masks, classes = (float((a - b).abs().max()) for a, b in zip(expected[:2], got[:2], strict=True))
    differ = beyond = 0
    for place in range(len(got[0])):
        scores = [
            segmentation_scores(part[0][place], part[1][place].softmax(-1)[:, :-1], Frame(size, size, size))
            for part in (expected, got)
        ]
        best = scores[0].topk(2, dim=0).values
        other = scores[0].argmax(0) != scores[1].argmax(0)
        differ += int(other.sum())
        beyond += int((other & (best[0] - best[1] > _MARGIN)).sum())
    return masks, classes, differ, beyond


def own_rounding(model: SAN, image: Tensor) -> float:
    """Return how far PyTorch's mask logits in float32 are from those in float64: tiny's go up to 38."""
    with torch.inference_mode():
        exact = copy.deepcopy(model).double()(image.double())[0].mask_logits
        return float((model(image)[0].mask_logits - exact).abs().max())


def check(model: str, folder: Path) -> Iterator[bool]:
    """Compare a model at every size; yields whether each is near enough."""
    weights = None if model == "tiny" else "random"
    segmenter = Segmenter.load(model, weights, device="cpu", precision="fp32")
    path = folder / f"{model}.onnx"
    if not path.exists():
        write_onnx(load_weights(model, weights, say=lambda text: None), path, templates("vild"))
    runs = {"ONNX Runtime": onnxruntime_run(path)}
    if find_spec("openvino"):
        runs["OpenVINO"] = openvino_run(path)
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(_WORDS + 1, segmenter.preset.clip.embed_dim, generator=generator)
    text = torch.nn.functional.normalize(text, dim=-1)
    for batch, height, width in _SIZES if model == "tiny" else _LARGE_SIZES:
        image = images(batch, height, width)
        with torch.inference_mode():
            out = segmenter.model(image)[0]
            expected = [out.mask_logits, segmenter.model.classify(out.region_embeddings, text)]
        for runtime, run in runs.items():
            masks, classes, differ, beyond = compare(expected, run(image, text), (height, width))
            print(
                f"| {model} | {batch} × {height} × {width} | {runtime} | {masks:.1e} | {classes:.1e} | {differ} of "
                f"{batch * height * width:,} | {beyond} |",
                flush=True,
            )
            yield not beyond and (
                max(masks, classes) <= _LOGITS or masks <= 2 * own_rounding(segmenter.model, image)
            )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["tiny", "vit-b-16", "vit-l-14"])
    parser.add_argument("--folder", type=Path, help="keeps the ONNX files, and has them from before")
    options = parser.parse_args()
    print(
        "| model | images | runtime | mask logits | class logits | labels that differ | beyond the margin |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        near = [fine for model in options.models for fine in check(model, folder)]
    sys.exit(not all(near))


if __name__ == "__main__":
    main()
