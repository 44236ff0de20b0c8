"""The numbers of an image, of any type and range, as 8-bit RGB; with a word on what that did to them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.reading import Reading
from san_cli.datasets.spooled import gathered

_DARK = 0.3  # nearly all values below this part of the range: the picture is dark
_CROWDED, _MOST = 1 / 8, 0.9  # most values within this part of the range: the picture is nearly of one shade
_AUTO = (1.0, 99.0)  # percentiles that `--range auto` makes black and white
_SAMPLE = 2**18  # values looked at to tell where most of them are


@dataclass(frozen=True)
class Rows:
    """Numbers of a band of rows."""

    values: npt.NDArray[Any]  # [h, W, 1] grey, [h, W, 3] RGB or [h, W, 4] CMYK
    alpha: npt.NDArray[Any] | None = None  # [h, W]
    outside: npt.NDArray[np.bool_] | None = None  # [h, W], where there is no data, whatever the values are


@dataclass(frozen=True)
class PixelValues:
    """Numbers as an image file stores them."""

    shape: tuple[int, int, int]  # H, W and the number of values a pixel
    dtype: np.dtype[Any]
    rows: Callable[[], Iterable[Rows]]  # from the top; a large picture's are read anew each time
    bits: int  # of a sample in the file
    is_tiff: bool = False
    declared: int = 0  # the highest value, where the file tells one
    nodata: float | None = None  # what stands for no data
    has_outside: bool = False
    white_is_zero: bool = False
    is_cmyk: bool = False
    has_alpha: bool = False
    alpha_is_associated: bool = False  # the colours are multiplied by it
    scale: float = 1.0  # values of the file are these divided by it


class _Sample:
    """Every so many-th of `total` values that come in parts, as if they lay in one array."""

    def __init__(self, total: int) -> None:
        self._step, self._seen = max(1, total // _SAMPLE), 0
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, values: npt.NDArray[Any]) -> None:
        flat = values.ravel()
        self._parts.append(flat[-self._seen % self._step :: self._step].copy())
        self._seen += flat.size

    def found(self) -> npt.NDArray[Any]:
        return np.concatenate(self._parts)


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
    height, width, colours = source.shape
    nothing = _without_data(source, notes)
    if nothing is not None and nothing.all():
        raise BadImage("no data: every pixel is NoData or not a finite number")
    if source.bits <= 8 and source.dtype == np.uint8:
        low, high = 0.0, float(2**source.bits - 1)
        if reading.range is not None:
            notes.append("--range changes nothing, as these pixels are read with 8 bits")
    else:
        low, high = _range(source, nothing, reading, notes)
    if source.is_cmyk:
        notes.append("CMYK converted to RGB without a colour profile")
    highest = None if source.is_cmyk or not source.has_alpha else _transparency(source, notes)

    def bands() -> Iterator[npt.NDArray[np.uint8]]:
        for rows, empty in _with_rows_of(nothing, source):
            scaled = _scaled(rows.values, low, high, is_colour=colours > 1)
            if empty is not None:
                scaled[empty] = 0
            if source.white_is_zero:
                scaled = 255 - scaled
            if source.is_cmyk:
                yield np.asarray(Image.fromarray(scaled, "CMYK").convert("RGB"))
                continue
            pixels = np.repeat(scaled, 3, axis=2) if colours == 1 else scaled
            yield pixels if highest is None else _on_white(pixels, rows.alpha, highest, source)

    return gathered(bands(), height, width), nothing


def survey_alpha(parts: Iterable[npt.NDArray[Any]], size: int, highest: float) -> tuple[bool, bool]:
    """Look at a band of `size` numbers that is called transparency: does it look like data, is all of it opaque?

    Another picture has few pixels that are clear or opaque, and many shades.
    """
    clear, is_opaque, sample = 0, True, _Sample(size)
    for alpha in parts:
        clear += int(np.count_nonzero(alpha <= 0)) + int(np.count_nonzero(alpha >= highest))
        is_opaque = is_opaque and _scaled(alpha, 0, highest, is_colour=True).min() == 255
        sample.add(alpha)
    return clear < size / 2 and len(np.unique(sample.found())) > 16, is_opaque


def data_as_alpha(colours: int) -> str:
    """The note on a band after `colours` others that is called transparency and looks like data."""
    bands = ",".join(str(band + 1) for band in range(colours))
    return f"band {colours + 1} is called transparency but looks like data; --bands {bands} leaves it out"


def _with_rows_of(
    nothing: npt.NDArray[np.bool_] | None, source: PixelValues
) -> Iterator[tuple[Rows, npt.NDArray[np.bool_] | None]]:
    """Yield bands of rows with their part of an array [H, W]."""
    top = 0
    for rows in source.rows():
        below = top + len(rows.values)
        yield rows, None if nothing is None else nothing[top:below]
        top = below


def _without_data(source: PixelValues, notes: list[str]) -> npt.NDArray[np.bool_] | None:
    """Find where there is no data: NoData in all bands, or a number that isn't finite in any."""
    is_float = source.dtype.kind == "f"
    nodata = source.nodata if source.nodata is not None and _can_hold(source.dtype, source.nodata) else None
    if nodata is None and not source.has_outside and not is_float:
        return None
    nothing = np.zeros(source.shape[:2], bool)
    missing = infinite = 0
    for rows, here in _with_rows_of(nothing, source):
        assert here is not None
        if rows.outside is not None:
            here |= rows.outside
        if nodata is not None:
            here |= (rows.values == _stored(source.dtype, nodata)).all(axis=2)
        missing += int(np.count_nonzero(here))
        if is_float:
            broken = ~np.isfinite(rows.values).all(axis=2) & ~here
            infinite += int(np.count_nonzero(broken))
            here |= broken
    if missing:
        told = "" if source.nodata is None else f" ({source.nodata:g})"
        notes.append(f"{missing} pixels are NoData{told}: they stay unlabelled")
    if infinite == nothing.size:
        raise BadImage("no finite value in this floating-point image")
    if infinite:
        notes.append(f"{infinite} pixels are not finite: they are made black and stay unlabelled")
    return nothing if missing or infinite else None


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


def _extent(
    source: PixelValues, nothing: npt.NDArray[np.bool_] | None
) -> tuple[float, float, npt.NDArray[np.float64]]:
    """Find the lowest and the highest value where there is data, and a sorted sample of them."""
    height, width, colours = source.shape
    count = height * width - (0 if nothing is None else int(np.count_nonzero(nothing)))
    low, high, sample = np.inf, -np.inf, _Sample(count * colours)
    for rows, empty in _with_rows_of(nothing, source):
        usable = rows.values if empty is None else rows.values[~empty]
        if usable.size:
            low, high = min(low, float(usable.min())), max(high, float(usable.max()))
            sample.add(usable)
    return low, high, np.sort(sample.found()).astype(np.float64)


def _range(
    source: PixelValues, nothing: npt.NDArray[np.bool_] | None, reading: Reading, notes: list[str]
) -> tuple[float, float]:
    """Find the values that become black and white."""
    low, high, sample = _extent(source, nothing)
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
    if reading.range == "auto":
        low, high = (float(value) for value in np.percentile(sample, _AUTO))
        what = "values"
    elif source.dtype.kind == "f":
        what = "floating-point values"
    else:
        low, high = _integer_range(source, low, high)
        what = "integer values" if source.shape[2] > 1 else "integer grey values"
    told = f"{what} {low / scale:.6g} to {high / scale:.6g}"
    if reading.range == "auto":
        notes.append(f"{told} (1st to 99th percentile) stretched to 8 bits")
    elif source.dtype.kind == "f":
        notes.append(f"{told} stretched to 8 bits")
    elif source.shape[2] == 1 or (low, high) != (0, 65535):
        notes.append(f"{told} scaled to 8 bits")
    notes += _doubts(sample, low, high, scale)
    return low, high


def _integer_range(source: PixelValues, low: float, high: float) -> tuple[float, float]:
    """By what the file declares, else by the number of bits; of 32 and more bits by the values."""
    if low >= 0 and source.declared >= high > 0:
        return 0, source.declared
    if low < 0 or (source.nodata is not None and source.dtype.kind == "i"):  # heights, not light
        return low, high
    if source.bits < 16:
        return 0, 2 ** (source.bits - (source.dtype.kind == "i")) - 1
    if source.is_tiff and high <= 255 and (source.bits > 16 or source.dtype.kind == "i"):
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


def _transparency(source: PixelValues, notes: list[str]) -> float | None:
    """Find the value that is opaque; None if all of the picture is."""
    size = source.shape[0] * source.shape[1]
    if source.dtype.kind == "f":
        most = float(np.fmax.reduce([np.fmax.reduce(alpha, axis=None) for alpha in _alphas(source)]))
        highest = 1.0 if most <= 1 else most
    else:
        is_whole = source.bits in (8, 16, 32, 64)
        highest = float(np.iinfo(source.dtype).max if is_whole else 2**source.bits - 1)
    looks_like_data, is_opaque = survey_alpha(_alphas(source), size, highest)
    if looks_like_data:
        notes.append(data_as_alpha(source.shape[2]))
    if is_opaque:
        return None
    notes.append("transparent parts are shown on white")
    return highest


def _alphas(source: PixelValues) -> Iterator[npt.NDArray[Any]]:
    return (rows.alpha for rows in source.rows() if rows.alpha is not None)


def _on_white(
    pixels: npt.NDArray[np.uint8], alpha: npt.NDArray[Any] | None, highest: float, source: PixelValues
) -> npt.NDArray[np.uint8]:
    """Show what is transparent on white."""
    assert alpha is not None
    opacity = _scaled(alpha, 0, highest, is_colour=True)
    mode = "RGBa" if source.alpha_is_associated else "RGBA"
    stacked = np.ascontiguousarray(np.dstack([pixels, opacity]))
    image = Image.frombuffer(mode, stacked.shape[1::-1], stacked, "raw", mode, 0, 1).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
