"""The numbers of an image, of any type and range, as 8-bit RGB; with a word on what that did to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.reading import Reading

_DARK = 0.3  # nearly all values below this part of the range: the picture is dark
_CROWDED, _MOST = 1 / 8, 0.9  # most values within this part of the range: the picture is nearly of one shade
_AUTO = (1.0, 99.0)  # percentiles that `--range auto` makes black and white
_SAMPLE = 2**18  # values looked at to tell where most of them are


@dataclass(frozen=True)
class PixelValues:
    """Numbers as an image file stores them."""

    values: npt.NDArray[Any]  # [H, W, 1] grey, [H, W, 3] RGB or [H, W, 4] CMYK
    bits: int  # of a sample in the file
    is_tiff: bool = False
    declared: int = 0  # the highest value, where the file tells one
    nodata: float | None = None  # what stands for no data
    outside: npt.NDArray[np.bool_] | None = None  # [H, W], where there is no data for another reason
    white_is_zero: bool = False
    is_cmyk: bool = False
    alpha: npt.NDArray[Any] | None = None  # [H, W]
    alpha_is_associated: bool = False  # the colours are multiplied by it
    scale: float = 1.0  # values of the file are these divided by it


def chosen_bands(
    count: int, data_bands: Sequence[int], alpha: int | None, reading: Reading, notes: list[str]
) -> tuple[tuple[int, ...], int | None]:
    """The bands that are shown (from 0: three, or one as grey), and the one that is transparency.

    `data_bands` of the `count` bands aren't transparency. Raises BadImage where `reading` asks for others.
    """
    if reading.bands is not None:
        if max(reading.bands) > count:
            raise BadImage(
                f"has {count} band{'s' * (count > 1)}, so --bands can't take band {max(reading.bands)}"
            )
        return tuple(band - 1 for band in reading.bands), None
    bands = tuple(data_bands[:3]) if len(data_bands) >= 3 else tuple(data_bands[:1])
    if len(data_bands) > len(bands):
        shown = ",".join(str(band + 1) for band in bands)
        notes.append(
            f"of {count} bands {shown} {'are' if len(bands) > 1 else 'is'} shown; --bands R,G,B chooses others"
        )
    return bands, alpha


def to_rgb(
    source: PixelValues, reading: Reading, notes: list[str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
    """RGB [H, W, 3] of 8 bits, and where there is no data [H, W], None if there is everywhere.

    What was done to the values is added to `notes`. Raises BadImage if there is no value at all.
    """
    values = source.values
    nothing = _without_data(source, notes)
    if nothing is not None and nothing.all():
        raise BadImage("no data: every pixel is NoData or not a finite number")
    if source.bits <= 8 and values.dtype == np.uint8:
        low, high = 0.0, float(2**source.bits - 1)
        if reading.range is not None:
            notes.append(f"--range changes nothing, as samples have {source.bits} bits")
    else:
        low, high = _range(source, nothing, reading, notes)
    scaled = _scaled(values, low, high, is_colour=values.shape[2] > 1)
    if nothing is not None:
        scaled[nothing] = 0
    if source.white_is_zero:
        scaled = 255 - scaled
    if source.is_cmyk:
        notes.append("CMYK converted to RGB without a colour profile")
        return np.asarray(Image.fromarray(scaled, "CMYK").convert("RGB")), nothing
    pixels = np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled
    if source.alpha is not None:
        pixels = _on_white(pixels, source, notes)
    return pixels, nothing


def looks_like_data(alpha: npt.NDArray[Any], highest: float) -> bool:
    """Tell whether a band that is called transparency looks like another picture: few pixels are clear or opaque."""
    clear = np.count_nonzero(alpha <= 0) + np.count_nonzero(alpha >= highest)
    return clear < alpha.size / 2 and len(np.unique(alpha.ravel()[:: max(1, alpha.size // _SAMPLE)])) > 16


def data_as_alpha(colours: int) -> str:
    """The note on a band after `colours` others that is called transparency and looks like data."""
    bands = ",".join(str(band + 1) for band in range(colours))
    return f"band {colours + 1} is called transparency but looks like data; --bands {bands} leaves it out"


def _without_data(source: PixelValues, notes: list[str]) -> npt.NDArray[np.bool_] | None:
    """Find where there is no data: NoData in all bands, or a number that isn't finite in any."""
    values, nothing = source.values, source.outside
    if source.nodata is not None and _can_hold(values.dtype, source.nodata):
        found = (values == _stored(values.dtype, source.nodata)).all(axis=2)
        nothing = found if nothing is None else nothing | found
    if nothing is not None and nothing.any():
        told = "" if source.nodata is None else f" ({source.nodata:g})"
        notes.append(f"{int(nothing.sum())} pixels are NoData{told}: they stay unlabelled")
    if values.dtype.kind == "f":
        broken = ~np.isfinite(values).all(axis=2)
        if nothing is not None:
            broken &= ~nothing
        if broken.any():
            if broken.all():
                raise BadImage("no finite value in this floating-point image")
            notes.append(
                f"{int(broken.sum())} pixels are not finite: they are made black and stay unlabelled"
            )
            nothing = broken if nothing is None else nothing | broken
    return nothing if nothing is not None and nothing.any() else None


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return value.is_integer() and limits.min <= value <= limits.max


def _stored(dtype: np.dtype[Any], value: float) -> float | int:
    """The value as the type has it: written in decimal, the lowest float32 may come out a little lower."""
    if dtype.kind != "f":
        return int(value)
    limit = float(np.finfo(dtype).max)
    return float(dtype.type(min(max(value, -limit), limit))) if np.isfinite(value) else value


def _range(
    source: PixelValues, nothing: npt.NDArray[np.bool_] | None, reading: Reading, notes: list[str]
) -> tuple[float, float]:
    """Find the values that become black and white."""
    usable = source.values if nothing is None else source.values[~nothing]
    sample = np.sort(usable.ravel()[:: max(1, usable.size // _SAMPLE)]).astype(np.float64)
    scale = source.scale
    if reading.range is not None and reading.range != "auto":
        low, high = reading.range
        outside = float(np.mean((sample < low * scale) | (sample > high * scale)))
        if outside > 0.5:
            notes.append(
                f"{outside:.0%} of the values lie outside --range {low:g},{high:g}: "
                f"they go from {sample[0] / scale:g} to {sample[-1] / scale:g}"
            )
        return low * scale, high * scale
    low, high = float(usable.min()), float(usable.max())
    if reading.range == "auto":
        low, high = (float(value) for value in np.percentile(sample, _AUTO))
        what = "values"
    elif source.values.dtype.kind == "f":
        what = "floating-point values"
    else:
        low, high = _integer_range(source, low, high)
        what = "integer values" if source.values.shape[2] > 1 else "integer grey values"
    told = f"{what} {low / scale:.6g} to {high / scale:.6g}"
    if reading.range == "auto":
        notes.append(f"{told} (1st to 99th percentile) stretched to 8 bits")
    elif source.values.dtype.kind == "f":
        notes.append(f"{told} stretched to 8 bits")
    elif source.values.shape[2] == 1 or (low, high) != (0, 65535):
        notes.append(f"{told} scaled to 8 bits")
    notes += _doubts(sample, low, high, scale)
    return low, high


def _integer_range(source: PixelValues, low: float, high: float) -> tuple[float, float]:
    """By what the file declares, else by the number of bits; of 32 and more bits by the values."""
    if low >= 0 and source.declared >= high > 0:
        return 0, source.declared
    if low < 0 or (source.nodata is not None and source.values.dtype.kind == "i"):  # heights, not light
        return low, high
    if source.bits < 16:
        return 0, 2 ** (source.bits - (source.values.dtype.kind == "i")) - 1
    if source.is_tiff and high <= 255 and (source.bits > 16 or source.values.dtype.kind == "i"):
        return 0, 255  # an 8-bit image that went through a larger array
    return (0, 65535) if high <= 65535 else (low, high)


def _doubts(sample: npt.NDArray[np.float64], low: float, high: float, scale: float) -> list[str]:
    """Return a sentence where hardly anything can be seen of the picture in the range; `sample` is sorted."""
    if sample[0] == sample[-1]:
        return [f"all values are {sample[0] / scale:g}"]
    if high <= low:
        return [f"nearly all values are {low / scale:g}"]
    bright = float(np.percentile(sample, 99.9))
    if low == 0 and bright < _DARK * high:
        top = f"{bright / scale:.6g}"
        return [
            f"nearly all values are below {top}, {100 * bright / high:.2g} % of the range: the picture is dark; "
            f"--range auto stretches it, --range 0,{top} a whole folder alike"
        ]
    most = int(_MOST * (len(sample) - 1))
    widths = sample[most:] - sample[: len(sample) - most]
    at = int(widths.argmin())
    if widths[at] >= _CROWDED * (high - low):
        return []
    first, last = sample[at] / scale, sample[at + most] / scale
    return [
        f"most values lie between {first:.6g} and {last:.6g}, a small part of the range: little can be seen; "
        f"--range {first:.6g},{last:.6g} shows it"
    ]


def _scaled(values: npt.NDArray[Any], low: float, high: float, *, is_colour: bool) -> npt.NDArray[np.uint8]:
    """[low, high] to [0, 255], rounded, and clipped there; in float64, since a float32 range may overflow."""
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values.copy()
    if values.dtype in (np.uint8, np.uint16):
        if is_colour and (low, high) == (0, 65535):
            return (values >> 8).astype(np.uint8)  # as Pillow does
        table = _scaled(np.arange(np.iinfo(values.dtype).max + 1, dtype=np.int64), low, high, is_colour=False)
        return table[values]
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        part = (values.astype(np.float64) - low) * 255.0 / (high - low) + 0.5
        return np.clip(np.nan_to_num(part, nan=0.0), 0, 255.5).astype(np.uint8)


def _on_white(pixels: npt.NDArray[np.uint8], source: PixelValues, notes: list[str]) -> npt.NDArray[np.uint8]:
    """Show what is transparent on white."""
    alpha = source.alpha
    assert alpha is not None
    whole = alpha.dtype.kind != "f"
    highest = float(
        np.iinfo(alpha.dtype).max if whole and source.bits in (8, 16, 32, 64) else 2**source.bits - 1
    )
    if not whole:
        highest = 1.0 if np.nanmax(alpha) <= 1 else float(np.nanmax(alpha))
    if looks_like_data(alpha, highest):
        notes.append(data_as_alpha(source.values.shape[2]))
    opacity = _scaled(alpha, 0, highest, is_colour=True)
    if opacity.min() == 255:
        return pixels
    notes.append("transparent parts are shown on white")
    mode = "RGBa" if source.alpha_is_associated else "RGBA"
    stacked = np.ascontiguousarray(np.dstack([pixels, opacity]))
    image = Image.frombuffer(mode, stacked.shape[1::-1], stacked, "raw", mode, 0, 1).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
