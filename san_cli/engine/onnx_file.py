"""What an ONNX file of `san export` says of itself, read without a runtime and without its tensors.

An ONNX file is one protobuf message, whose free metadata is a list of pairs of texts beside the graph. Ours:

    format           "san-onnx-1"
    preset           the model's sizes, JSON
    weights          sha256 of the weights that it was made from, or "random:…"
    weights_name     name of their file
    templates        prompt templates that the model is meant to be used with, JSON
    mean, std        of a channel, in values of 0 to 255, JSON
    pad_to           the image's height and width are multiples of it, in pixels
    no_object        the learned embedding that competes beside all words, JSON
    logit_scale      logarithm of CLIP's temperature, by which the class logits are multiplied already
    inputs, outputs  what they are, in words
    san              the version that wrote it
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from san_cli.errors import SanError
from san_cli.files import open_regular
from san_cli.models.presets import PAD_TO, Preset, preset_from_json, preset_to_json
from san_cli.weights.find import cant_read, expanded

SUFFIX = ".onnx"
FORMAT = "san-onnx-1"
INPUTS, OUTPUTS = ("image", "text"), ("mask_logits", "class_logits", "region_embeddings")
_METADATA = 14  # the field's number in ONNX's ModelProto
_LONGEST = 1 << 24  # bytes of one piece of metadata
_MEANING = {
    "inputs": "image: float32 [batch, 3, height, width], RGB, (value of 0 to 255 - mean) / std, then padded with 0 "
    f"at the right and the bottom to multiples of {PAD_TO}. text: float32 [words + 1, dimensions], a row of length 1 "
    "for each word, and last one for no object.",
    "outputs": "mask_logits: float32 [batch, queries, height / patch, width / patch]. class_logits: float32 "
    "[batch, queries, words + 1]. region_embeddings: float32 [batch, queries, dimensions], of length 1.",
}


@dataclass(frozen=True)
class OnnxDescription:
    """What an ONNX file of ours says of itself."""

    preset: Preset
    weights_sha256: str  # of those that it was made from
    weights_name: str
    no_object: tuple[float, ...]  # [D], as it was learned
    logit_scale: float  # a logarithm


def is_onnx(weights: object) -> bool:
    """Tell whether weights are named that are an ONNX file."""
    return weights is not None and Path(str(weights)).suffix.lower() == SUFFIX


def written_metadata(description: OnnxDescription, free: Mapping[str, str]) -> dict[str, str]:
    """List the metadata of a file, by name: the description, and what else is to stand there."""
    return {
        **_MEANING,
        **free,
        "format": FORMAT,
        "preset": preset_to_json(description.preset),
        "weights": description.weights_sha256,
        "weights_name": description.weights_name,
        "no_object": json.dumps(description.no_object),
        "logit_scale": json.dumps(description.logit_scale),
        "pad_to": str(PAD_TO),
    }


def read_description(path: Path) -> OnnxDescription:
    """Read what an ONNX file says of itself. Raises SanError for what isn't one of ours."""
    path = expanded(path)
    way = "`san export --onnx FILE` makes one."
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            found = dict(_metadata(file))
    except ValueError as error:
        raise SanError(f"'{path}' is no ONNX file, or is damaged", hint=way) from error
    except OSError as error:
        raise cant_read(path, error, way) from error
    if found.get("format") != FORMAT:
        if found.get("format", "").startswith("san-onnx-"):
            raise SanError(f"'{path}' was written by another version of san", hint=f"Export it again: {way}")
        raise SanError(f"'{path}' is an ONNX model, but not one of `san export`", hint=way)
    try:
        no_object, logit_scale = json.loads(found["no_object"]), json.loads(found["logit_scale"])
        return OnnxDescription(
            preset_from_json(found["preset"]),
            found["weights"],
            found["weights_name"],
            tuple(map(float, no_object)),
            float(logit_scale),
        )
    except (SanError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise SanError(f"the metadata of '{path}' is damaged", hint=f"Export it again: {way}") from error


def _metadata(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield names and values of a model's metadata, stepping over all else. ValueError for what is no model."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise ValueError("empty")
    while file.tell() < size:
        number, kind = divmod(_varint(file), 8)
        if kind == 0:
            _varint(file)
            continue
        length = {1: 8, 5: 4}.get(kind) or (_varint(file) if kind == 2 else size + 1)
        if not number or file.tell() + length > size:
            raise ValueError("no protobuf message, or cut short")
        if number == _METADATA and kind == 2 and length < _LONGEST:
            yield _pair(file.read(length))
        else:
            file.seek(length, os.SEEK_CUR)


def _pair(entry: bytes) -> tuple[str, str]:
    """Read a message of two texts, numbered 1 and 2."""
    texts = {1: "", 2: ""}
    while entry:
        tag, length, start = entry[0], 0, 1
        for shift in range(0, 35, 7):
            byte = entry[start] if start < len(entry) else 0
            length |= (byte & 0x7F) << shift
            start += 1
            if byte < 0x80:
                break
        texts[tag >> 3] = entry[start : start + length].decode("utf-8")
        entry = entry[start + length :]
    return texts[1], texts[2]


def _varint(file: BinaryIO) -> int:
    """Read a number of seven bits a byte, the lowest first. ValueError where it doesn't end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("no number")
