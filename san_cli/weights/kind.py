"""Files that aren't weights of ours, told by their first bytes, an archive's list, or the names of tensors."""

import codecs
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

HEAD = 512  # bytes that `kind_of_bytes` wants

_MAGIC = [  # (offset, bytes, what it is)
    (0, b"GGUF", "a GGUF file, of llama.cpp"),
    (0, b"\x89HDF\r\n", "an HDF5 file, of Keras perhaps"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (0, b"\xfd7zXZ", "an xz archive: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (0, b"Rar!", "a RAR archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
]
_CHANGED = [  # likewise, of what isn't the weights themselves, whatever network it is of
    (r".*(lora_(A|B|up|down)|hada_w[12]_[ab]|dora_scale)\b", "a LoRA, small changes to another model", ""),
    (
        r".*(qweight|qzeros|weight_scale(_inv)?|scale_weight|quant_map|absmax|\.SCB|_packed_params.*)$",
        "quantised: it holds whole numbers of a few bits and their scales",
        "Take the file it was made from, in float32, float16 or bfloat16.",
    ),
    (
        r".*/(exp_avg|exp_avg_sq|momentum_buffer)$",
        "the state of a training's optimiser",
        "Its weights are beside it: name weights.safetensors, or the training's folder.",
    ),
]
_TENSORS = [  # (a name of one of its tensors, what it is then, the way out); the first that fits
    (
        r"(logit_bias$|visual\.trunk\.|vision_model\.head\.)",
        "a SigLIP or another CLIP whose image tower isn't OpenAI's, without a side adapter",
        "San runs on OpenAI's kind of CLIP: --clip-weights takes open_clip's ViT-B-16 or ViT-L-14-336.",
    ),
    (
        r"(vision_model|text_model)\.",
        "a CLIP of Hugging Face's transformers, without a side adapter",
        "open_clip's file of the same CLIP can be trained on: san train --clip-weights FILE",
    ),
    (r"(sem_seg_head|backbone)\.", "another segmentation or detection network", ""),
    (r"(backbone\.)?(conv1\.weight|layer1\.0\.conv1\.weight)$", "a ResNet", ""),
    (
        r"(visual\.conv1\.weight|visual\.transformer\..*)$",
        "a CLIP without a side adapter",
        "A side adapter can be trained on it: san train --clip-weights FILE",
    ),
    (r"blocks\.0\.attn\.qkv\.weight$", "a ViT of timm", ""),
]
_WORDS = re.compile(rb'.{8}\{"__metadata__":\{"san-words"', re.DOTALL)  # see vocabulary/learned_words.py
_OURS = re.compile(
    r"(side_adapter(_network)?|clip_visual_extractor|clip_rec_head|ov_classifier|decode_head\.side_adapter_network)\."
)


def kind_of_bytes(start: bytes, suffix: str = "") -> str:
    """Name what a file is that begins like this, if it certainly isn't weights; else ""."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer to the real file (`git lfs pull` fetches that)"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, probably an error page saved by a download"
    if _WORDS.match(start):
        return "a file of learned words, which goes to --vocab: @FILE"
    if text.startswith((b'{"error', b'{"message')):
        return "a server's error message saved by a download"
    for offset, magic, what in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return what
    if start[:1] == b"\x08" and (suffix == ".onnx" or b"pytorch" in start[:64] or b"onnx" in start[:64]):
        return "an ONNX model"
    if _is_text(start):
        return "the index of a model in several files" if b'"weight_map"' in start else "text"
    return ""


def _is_text(start: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # the end may be cut
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text)


def kind_of_archive(path: Path) -> str:
    """Name what a zip archive is that holds no checkpoint of PyTorch's; "" for what does, and for what is no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return ""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        return "a TorchScript program, which is never opened: save its state_dict()"
    if any(name.endswith("data.pkl") for name in names):
        return ""
    return "NumPy arrays" if any(name.endswith(".npy") for name in names) else "a zip archive: unpack it"


def kind_of_tensors(names: Iterable[str]) -> tuple[str, str]:
    """Name what a state dict with these names is if it is no SAN of ours, and the way out; ("", "") if unknown."""
    names = sorted(name.removeprefix("module.") for name in names)
    for pattern, what, way in _CHANGED if is_san(names) else (*_CHANGED, *_TENSORS):
        if any(re.match(pattern, name) for name in names):
            return what, way
    return "", ""


def is_san(names: Iterable[str]) -> bool:
    """Tell whether there are names of a SAN's tensors among these: the official code's, ours, mmsegmentation's."""
    return any(_OURS.match(name) for name in names)


def kind_of_folder(folder: Path) -> str:
    """Name in a sentence what else a folder holds that could be meant; "" for nothing."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return ""
    if "saved_model.pb" in names:
        return "It is a model of TensorFlow's."
    parts = [name for name in names if re.search(r"-of-\d+\.(safetensors|bin)$|\.index\.json$", name)]
    if parts:
        return f"It holds a model in several files ('{parts[0]}'), and none of ours is."
    files = [name for name in names if name.endswith((".pth", ".safetensors", ".pt", ".bin"))]
    return f"It holds '{files[0]}': name that file if it is the one." if files else ""
