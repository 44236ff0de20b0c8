"""What lies in an archive: its files by name, in its order, and what is wrong with it.

An archive is known by its content, whatever it is called. Names are those that its files would have if it were
unpacked: without `./` and a slash in front; one with `..` in it leads nowhere.
"""

import os
import re
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from san_cli.datasets.archive_streams import DAMAGE, BoundedHeaders, decompressed, is_tar, is_tar_header
from san_cli.datasets.archives import IN_STREAM, IN_TAR, METHODS, Archive, Member
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.foreign_formats import is_archive
from san_cli.datasets.georeference import WORLD_SUFFIXES
from san_cli.datasets.image_magic import HEAD, read_head
from san_cli.datasets.image_names import IMAGE_SUFFIXES

# Of names without an image's suffix so many are looked into, as in folders.
_TRIED_OF_SUFFIX, _TRIED_SUFFIXES = 64, 1024
_LONGEST_WORLD_FILE = 2**16  # bytes
_LARGEST_GAP = 2**20  # bytes behind a tar's end mark that are looked at
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_OCTAL = re.compile(rb" *[0-7]+")
_ENDS = {"EOFHeaderError": "", "EmptyHeaderError": "its end mark is missing"}  # what ends a list
_SUFFIXES = (
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz", ".tbz2", ".txz", ".tar", ".zip", ".cbz", ".cbt"),
)


class Found(NamedTuple):
    """A file of an archive, or what else stands under a name there."""

    name: str  # cleaned; "" where it would lead out of the archive's folder
    member: Member
    what: str = ""  # "link to NAME", "hard link", … of what is no file
    target: str = ""  # of a hard link: the name of the file that it is
    head: bytes = b""  # first bytes, of one without an image's suffix


@dataclass
class Listed:
    """An archive, and all that was found in it."""

    archive: Archive
    found: list[Found] = field(default_factory=list)
    fault: str = ""  # why the list isn't whole, or not to be trusted
    goes_on: bool = False  # something stands behind its end mark


def archive_stem(name: str) -> str:
    """Return an archive's name without its suffixes: `000.tar.gz` → `000`."""
    lower = name.lower()
    suffix = next((suffix for suffix in _SUFFIXES if lower.endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name


def is_archive_name(name: str) -> bool:
    """Tell whether a file is called like an archive that san reads."""
    return name.lower().endswith(_SUFFIXES)


def looks_like_archive(path: str) -> bool:
    """Tell whether a file is an archive that san reads, or the ruins of one, by its first bytes and its suffix."""
    head, suffix = read_head(path), os.path.splitext(path)[1]  # noqa: PTH122 (paths stay strings)
    if not head or suffix.lower() in IMAGE_SUFFIXES:
        return False
    if is_tar_header(head):
        return True
    if head.startswith(_COMPRESSED):
        return is_archive_name(path) or (is_archive(head, suffix) and is_tar(Path(path)))
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return is_archive(head, suffix)
    is_empty = not any(head) and len(head) >= tarfile.BLOCKSIZE and path.lower().endswith(".tar")
    return is_empty or (head.startswith(b"ustar", 257) and is_archive(head, suffix))


def list_archive(path: str) -> Listed:
    """List what lies in an archive. Raises nothing: what is wrong with it is in `fault`."""
    try:
        status = os.stat(path)  # noqa: PTH116 (as above)
        head = read_head(path)
    except OSError as error:
        return Listed(Archive(path, -1, -1), fault=(error.strerror or str(error)).lower())
    is_plain = is_tar_header(head)  # whatever its first file's name begins with
    is_stream, is_zip = (not is_plain and head.startswith(start) for start in (_COMPRESSED, b"PK"))
    archive = Archive(path, status.st_size, status.st_mtime_ns, is_stream=is_stream)
    listed = Listed(archive)
    try:
        if is_zip:
            _list_zip(listed)
        else:
            _list_tar(listed)
    except DAMAGE as error:
        cause = " ".join(str(getattr(error, "strerror", None) or error).split())[:120] or type(error).__name__
        kind = "ZIP archive" if is_zip else "tar archive"
        whole = f"; {len(listed.found):,} files of it are listed" if listed.found else ""
        way_out = "copy it again, or unpack it as far as that goes"
        listed.fault = f"{kind} that is damaged or cut short ({cause}){whole}: {way_out}"
    archive.members = {one.name: one.member for one in files_of(listed) if one.name and not one.what}
    return listed


def _list_zip(listed: Listed) -> None:
    archive, tried = listed.archive, Counter[str]()
    with zipfile.ZipFile(archive.path) as file:
        for info in file.infolist():
            name = info.filename
            if name.endswith("/"):
                continue
            if "/" not in name:  # as some programs for Windows write
                name = name.replace("\\", "/")
            kind = stat.S_IFMT(info.external_attr >> 16)
            what = "" if kind in (0, stat.S_IFREG) else "link" if kind == stat.S_IFLNK else "no file"
            member = Member(
                archive, cleaned(name), info.header_offset, info.file_size, info.compress_type,
                info.compress_size, info.CRC, _zip_fault(info),
            )  # fmt: skip
            head = b""
            if not what and not member.fault and _is_to_try(name, tried):
                head = read_head(member)
            _add(listed, name, member, what=what, head=head)
            if not what and _is_world_file(name, info.file_size):
                with suppress(BadImage):
                    archive.beside[member.inner] = member.read()


def _zip_fault(info: zipfile.ZipInfo) -> str:
    """Say why a member of a zip can't be read, "" if it may."""
    if info.flag_bits & 0x1:
        return "encrypted: unpack it with its password and give the folder"
    if info.compress_type not in METHODS:
        method = {14: "LZMA", 93: "Zstandard"}.get(info.compress_type, f"method {info.compress_type}")
        return f"packed by {method}, which san doesn't read: unpack it and give the folder"
    return ""


def _list_tar(listed: Listed) -> None:
    archive, tried = listed.archive, Counter[str]()
    with closing(BoundedHeaders(decompressed(Path(archive.path)))) as stream:
        tar = _Tar(fileobj=cast("IO[bytes]", stream), tarinfo=_Info)
        while (info := tar.next()) is not None:
            cast("Any", tar).members = []  # `listed` has them
            if info.isdir():
                continue
            member = Member(
                archive, cleaned(info.name), info.offset_data, info.size,
                IN_STREAM if archive.is_stream else IN_TAR,
                fault="stored as a sparse file: unpack it and give the folder" if info.issparse() else "",
            )  # fmt: skip
            what = "" if info.isreg() else "link" if info.issym() or info.islnk() else "no file"
            head = b""
            if info.isreg() and not member.fault and _is_to_try(info.name, tried):
                stream.seek(info.offset_data)
                head = stream.read(min(HEAD, info.size))
            target = cleaned(info.linkname) if info.islnk() else ""
            _add(listed, info.name, member, what=what, target=target, head=head)
            if info.isreg() and _is_world_file(info.name, info.size):
                stream.seek(info.offset_data)
                archive.beside[member.inner] = stream.read(info.size)
        if tar.fault:
            raise tarfile.ReadError(tar.fault)
        listed.goes_on = _has_more(stream, tar.offset, to_the_end=archive.is_stream)


class _Tar(tarfile.TarFile):
    """A tar that tells why its list ends, where that isn't at its end mark."""

    fault = ""


class _Info(tarfile.TarInfo):
    """A header, which notes what it is that ends a list, and is read at once if it is a plain file's."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Info":
        """Read a header: tarfile looks at all fields of each, which for 100,000 takes seconds."""
        size, told = bytes(buf[124:136]).rstrip(b" \0"), bytes(buf[148:156]).rstrip(b" \0")
        is_plain = len(buf) == tarfile.BLOCKSIZE and buf[156:157] == tarfile.REGTYPE and not buf[345]
        if not (is_plain and _OCTAL.fullmatch(size) and _OCTAL.fullmatch(told)):
            return super().frombuf(buf, encoding, errors)
        if sum(buf) - sum(buf[148:156]) + 8 * ord(" ") != int(told, 8):
            return super().frombuf(buf, encoding, errors)
        info = cls(bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors))
        info.size = int(size, 8)
        return info

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Info":
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            cast("_Tar", tar).fault = _ENDS.get(type(error).__name__, str(error))
            raise


def _has_more(stream: BoundedHeaders, at: int, *, to_the_end: bool) -> bool:
    """Tell whether anything but zeros follows a tar's end mark; a compressed one is read to its end and its sum."""
    stream.bounded = False
    stream.seek(at)
    found, seen = False, 0
    while (to_the_end or seen < _LARGEST_GAP) and (piece := stream.read(2**16)):
        found = found or any(piece)
        seen += len(piece)
    return found


def _add(
    listed: Listed, name: str, member: Member, *, what: str, target: str = "", head: bytes = b""
) -> None:
    listed.found.append(Found(member.inner, member, what or ("" if member.inner else name), target, head))


def cleaned(name: str) -> str:
    """Return a member's name as it is once it is unpacked; "" for one that leads out of its folder."""
    if not name.startswith(("/", "./")) and "//" not in name and "." not in name.split("/"):
        return "" if ".." in name.split("/") or "\0" in name else name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "" if ".." in parts or "\0" in name else "/".join(parts)


def _is_to_try(name: str, tried: Counter[str]) -> bool:
    """Tell whether to look into a file without an image's suffix, and count it."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (as above)
    if suffix in IMAGE_SUFFIXES or tried[suffix] == _TRIED_OF_SUFFIX or len(tried) > _TRIED_SUFFIXES:
        return False
    tried[suffix] += 1
    return True


def _is_world_file(name: str, size: int) -> bool:
    return size <= _LONGEST_WORLD_FILE and os.path.splitext(name)[1].lower() in WORLD_SUFFIXES  # noqa: PTH122


def files_of(listed: Listed) -> Iterator[Found]:
    """Yield the files as unpacking leaves them: hard links are files too, and of one name the last counts."""
    last = {one.name: one for one in listed.found}
    for one in listed.found:
        if one.name and last[one.name] is not one:
            continue
        target = last.get(one.target) if one.target else None
        if target is not None and not target.what:
            place = target.member._replace(inner=one.member.inner)
            yield Found(one.name, place, head=target.head)
        else:
            yield one
