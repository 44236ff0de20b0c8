"""Segment a picture with nothing but onnxruntime, numpy and Pillow.

Where san is, once:  san export --model tiny --onnx tiny.onnx --text words.npz --vocab emoji
Anywhere, then:      python onnx_segment.py tiny.onnx words.npz picture.jpg labels.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def bilinear(size: int, to: int) -> np.ndarray:
    """Make the matrix [to, size] that resizes one side."""
    centre = np.maximum((np.arange(to, dtype=np.float32) + 0.5) * np.float32(size / to) - 0.5, 0)
    low = np.minimum(centre.astype(int), size - 1)
    matrix = np.zeros((to, size), np.float32)
    matrix[np.arange(to), low] = 1 - (centre - low)
    matrix[np.arange(to), np.minimum(low + 1, size - 1)] += centre - low
    return matrix


network, words, picture, output = sys.argv[1:]
session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
short = json.loads(about["preset"])["input_size"]
with np.load(words) as file:
    text = dict(file)
if str(text["weights"]) != about["weights"]:
    raise SystemExit(f"{words} has the words of another model than {network}")

# The short side gets as many pixels as the model wants, the long one four times as many at most.
image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
scale = min(short / min(image.size), 4 * short / max(image.size))
width, height = (int(side * scale + 0.5) for side in image.size)
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
pixels = (pixels - np.float32(json.loads(about["mean"]))) / np.float32(json.loads(about["std"]))
pixels = np.pad(pixels, ((0, -height % 32), (0, -width % 32), (0, 0)))
inputs = {"image": pixels.transpose(2, 0, 1)[None], "text": text["rows"]}
(masks,), (logits,) = session.run(["mask_logits", "class_logits"], inputs)  # [N, h, w], [N, words + 1]

# A class is as likely as its likeliest word; no object, the last, takes its part and gets no pixel.
logits = np.concatenate([np.maximum.reduceat(logits[:, :-1], text["first"], axis=1), logits[:, -1:]], axis=1)
likely = np.exp(logits - logits.max(axis=1, keepdims=True))
likely = (likely / likely.sum(axis=1, keepdims=True))[:, :-1]

# Masks to the padded size, without the padding, to the picture's: row by row, so that they never stand as a whole.
down = bilinear(height, image.height) @ bilinear(masks.shape[1], pixels.shape[0])[:height]
across = bilinear(width, image.width) @ bilinear(masks.shape[2], pixels.shape[1])[:width]
wide = masks @ across.T
labels = np.empty(image.size[::-1], np.uint16)
for row, shares in enumerate(down):
    labels[row] = (likely.T @ (1 / (1 + np.exp(-np.tensordot(shares, wide, (0, 1)))))).argmax(axis=0)

Image.fromarray(labels if len(text["names"]) > 256 else labels.astype(np.uint8)).save(output)
for label, count in sorted(
    zip(*np.unique(labels, return_counts=True), strict=True), key=lambda found: -found[1]
):
    print(f"{count / labels.size:6.1%}  {label:3}  {text['names'][label]}")
