"""Files that people take for images and that we don't read: which they are, so that a message can say it."""

_SUFFIXES = {
    "camera raw": ".3fr .arw .cr2 .cr3 .dng .erf .kdc .mef .mrw .nef .nrw .orf .pef .raf .raw .rw2 .srw .x3f",
    "HEIC": ".heic .heics .heif .heifs .hif",
    "JPEG XL": ".jxl",
    "SVG": ".svg .svgz",
    "OpenEXR": ".exr",
    "Photoshop": ".psd .psb",
    "PDF": ".pdf",
    "PostScript": ".eps .ps",
    "video": ".avi .m4v .mkv .mov .mp4 .webm",
}
_NAME_BY_SUFFIX = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
RAW_SUFFIXES = frozenset(_SUFFIXES["camera raw"].split())

# Photographs all the same: whoever has them in a folder wants to be told that they were not done.
PHOTO_SUFFIXES = RAW_SUFFIXES | frozenset(f"{_SUFFIXES['HEIC']} {_SUFFIXES['JPEG XL']}".split())

_MAGIC = (  # offset, bytes, what it is
    (8, b"CR\x02", "camera raw"),
    (4, b"ftypcrx ", "camera raw"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
    (0, b"IIRO", "camera raw"),
    (0, b"IIU\x00", "camera raw"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypisom", "video"),
    (4, b"ftypmp4", "video"),
    (4, b"ftypM4V", "video"),
    (4, b"ftypqt", "video"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip archive"),
)


def name_foreign_format(head: bytes, suffix: str) -> str:
    """One sentence on what the file is, judged by its first bytes and then by its suffix; "" if unknown."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself (`git lfs pull` fetches it)"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image (a failed download?)"
    name = next((name for at, magic, name in _MAGIC if head[at:].startswith(magic)), "")
    if not name and (text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--")) and b"<svg" in text)):
        name = "SVG"
    name = name or _NAME_BY_SUFFIX.get(suffix.lower(), "")
    return f"{name} files are not supported; convert it to JPEG or PNG first" if name else ""
