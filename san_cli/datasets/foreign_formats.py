"""Files that people take for images and that we don't read: which they are, so that a message can say it."""

from dataclasses import dataclass

_Magic = tuple[tuple[int, bytes], ...]  # offset and bytes, any of which will do


@dataclass(frozen=True)
class _Kind:
    name: str
    suffixes: str
    magic: _Magic = ()
    way_out: str = "convert it to JPEG or PNG first"


_UNPACK = "unpack it and give the folder"
_TO_TIFF = "convert the picture in it to TIFF or PNG first"
_RAW = _Kind(
    "camera raw",
    ".3fr .arw .cr2 .cr3 .dng .erf .kdc .mef .mrw .nef .nrw .orf .pef .raf .raw .rw2 .srw .x3f",
    (
        (8, b"CR\x02"),
        (4, b"ftypcrx "),
        (0, b"FUJIFILMCCD-RAW"),
        (0, b"IIRO"),
        (0, b"IIU\x00"),
    ),
)
_HEIC = _Kind(
    "HEIC",
    ".heic .heics .heif .heifs .hif",
    ((4, b"ftyphei"), (4, b"ftyphev"), (4, b"ftypmif1"), (4, b"ftypmsf1")),
)
_JPEG_XL = _Kind("JPEG XL", ".jxl", ((0, b"\xff\x0a"), (0, b"\x00\x00\x00\x0cJXL ")))
_PHOTOGRAPHS = (_RAW, _HEIC, _JPEG_XL)
_MEDIA = (
    *_PHOTOGRAPHS,
    _Kind("SVG", ".svg .svgz"),
    _Kind("OpenEXR", ".exr", ((0, b"\x76\x2f\x31\x01"),)),
    _Kind("Radiance HDR", ".hdr", ((0, b"#?RADIANCE"), (0, b"#?RGBE"))),
    _Kind("Photoshop", ".psd .psb", ((0, b"8BPS"),)),
    _Kind("GIMP", ".xcf", ((0, b"gimp xcf"),)),
    _Kind("icon", ".ico .icns .cur", ((0, b"\0\0\1\0"), (0, b"\0\0\2\0"), (0, b"icns"))),
    _Kind("Targa", ".tga"),
    _Kind("QOI", ".qoi", ((0, b"qoif"),)),
    _Kind("DDS", ".dds", ((0, b"DDS "),)),
    _Kind("JPEG XR", ".jxr .wdp .hdp", ((0, b"II\xbc"),)),
    _Kind("PAM", ".pam", ((0, b"P7"),)),
    _Kind("colour PFM", "", ((0, b"PF\n"),)),
    _Kind("DICOM", ".dcm .dicom", ((128, b"DICM"),), _TO_TIFF),
    _Kind("FITS", ".fits .fit .fts", ((0, b"SIMPLE  ="),), _TO_TIFF),
    _Kind(
        "PDF", ".pdf", ((0, b"%PDF"),), "make images of its pages first, for example: pdftoppm -png FILE page"
    ),
    _Kind("PostScript", ".eps .ps", ((0, b"%!PS"),)),
    _Kind(
        "video",
        ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .webm .wmv",
        (
            *((4, b"ftyp" + brand) for brand in (b"isom", b"iso2", b"mp4", b"M4V", b"qt", b"avc1", b"3gp")),
            *((4, box) for box in (b"moov", b"mdat", b"wide")),
            *(
                (0, start)
                for start in (b"\x1aE\xdf\xa3", b"FLV\1", b"OggS", b"\0\0\1\xba", b"\x30\x26\xb2\x75")
            ),
            (8, b"AVI LIST"),
        ),
        "take its frames out first, for example: ffmpeg -i VIDEO frames/%06d.png",
    ),
    _Kind("ZIP archive", ".zip", ((0, b"PK\x03\x04"), (0, b"PK\x05\x06")), _UNPACK),
    _Kind("tar archive", ".tar .tgz .tbz2 .txz", ((257, b"ustar"),), _UNPACK),
    _Kind("gzip archive", ".gz", ((0, b"\x1f\x8b"),), _UNPACK),
    _Kind("bzip2 archive", ".bz2", ((4, b"1AY&SY"),), _UNPACK),
    _Kind("xz archive", ".xz", ((0, b"\xfd7zXZ"),), _UNPACK),
    _Kind("Zstandard archive", ".zst", ((0, b"\x28\xb5\x2f\xfd"),), _UNPACK),
    _Kind("7-Zip archive", ".7z", ((0, b"7z\xbc\xaf"),), _UNPACK),
    _Kind("RAR archive", ".rar", ((0, b"Rar!"),), _UNPACK),
)
_DATA = (
    _Kind("NIfTI", ".nii", ((344, b"n+1\0"),), _TO_TIFF),
    _Kind("NetCDF", ".nc", ((0, b"CDF"),), _TO_TIFF),
    _Kind("NITF", ".nitf .ntf", ((0, b"NITF"),), _TO_TIFF),
    _Kind("GRIB", ".grb .grib .grib2", ((0, b"GRIB"),), _TO_TIFF),
    _Kind("NumPy", ".npy .npz", ((0, b"\x93NUMPY"),)),
    _Kind("HDF5", ".h5 .hdf5", ((0, b"\x89HDF"),)),
    _Kind("MATLAB", ".mat", ((0, b"MATLAB"),)),
    _Kind("Parquet", ".parquet", ((0, b"PAR1"),), "write its images to files first"),
    _Kind("weights", ".pth .pt .safetensors .ckpt", (), "name them with --weights FILE"),
)
RAW_SUFFIXES = frozenset(_RAW.suffixes.split())

# Photographs all the same: whoever has them in a folder wants to be told that they were not done.
PHOTO_SUFFIXES = frozenset(suffix for kind in _PHOTOGRAPHS for suffix in kind.suffixes.split())
# In a folder beside images they may hold more of them; what they are is worth a word.
MEDIA_SUFFIXES = frozenset(suffix for kind in _MEDIA for suffix in kind.suffixes.split())

_KINDS = (*_MEDIA, *_DATA)
_KIND_BY_SUFFIX = {suffix: kind for kind in _KINDS for suffix in kind.suffixes.split()}
_KIND_BY_MAGIC = tuple((at, magic, kind) for kind in _KINDS for at, magic in kind.magic)


def name_foreign_format(head: bytes, suffix: str) -> str:
    """One sentence on what the file is, judged by its first bytes and then by its suffix; "" if unknown."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself (`git lfs pull` fetches it)"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image (a failed download?)"
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--")) and b"<svg" in text):
        suffix = ".svg"
    kind = _kind(head, suffix)
    return "" if kind is None else f"{kind.name} files are not supported; {kind.way_out}"


def _kind(head: bytes, suffix: str) -> _Kind | None:
    kind = next((kind for at, magic, kind in _KIND_BY_MAGIC if head.startswith(magic, at)), None)
    if kind is None or kind.way_out == _UNPACK:  # a good many formats are archives inside
        kind = _KIND_BY_SUFFIX.get(suffix.lower(), kind)
    return kind


def is_archive(head: bytes, suffix: str) -> bool:
    """Tell whether a file is an archive, and nothing else that is one inside, such as NumPy's .npz."""
    kind = _kind(head, suffix)
    return kind is not None and kind.way_out == _UNPACK


def is_foreign_photograph(head: bytes) -> bool:
    """Tell whether the first bytes are those of a photograph in a format that we don't read."""
    return any(head.startswith(magic, at) for kind in _PHOTOGRAPHS for at, magic in kind.magic)
