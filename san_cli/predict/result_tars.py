"""The results of an archive's images in a tar of their own (`--save …,shards`), as WebDataset has samples.

A tar stands below the folder of the results under its archive's name; in it, in the archive's order, each image has
its files and `STEM.json`, its record. Files wait in `.san/staged` until the last image of their archive is done. The
tar is then written whole, and they are removed; what a later run doesn't make anew it takes from the tar before.

    DIR/.san/tars    JSON: of each tar that we made its size, its hash, and one of what it is made from
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from san_cli.datasets.archive_listing import archive_stem, list_archive
from san_cli.datasets.archives import Archive, Member
from san_cli.datasets.image_names import name_key, output_stem
from san_cli.errors import ExitCode, SanError
from san_cli.files import atomic_write, read_regular
from san_cli.outputs.jsonl import image_line
from san_cli.outputs.places import FILES, RECORD_SUFFIX, SHARDS, STAGED, STAGING, TARRED
from san_cli.predict.journal import STATE_FOLDER, ImageJournal, same_content, source_of
from san_cli.predict.made_files import Mark, has_size, marks_from, remove_made
from san_cli.predict.output_names import marked_paths
from san_cli.predict.results import make_folder
from san_cli.predict.search import InputImage, join, real_path
from san_cli.text import json_text, printable, quoted

_TOGETHER = (
    "json",
    "table",
    "parquet",
    "coco-polygons",
    "cvat",
)  # kinds that concern all images and name no file
_NEED_FILES = ("yolo", "labelme", "label-studio")  # kinds that lead to the image's own file


class ResultTar(NamedTuple):
    """A tar of results, and the archive whose images they are of."""

    path: str  # below the folder of the results
    archive: Archive
    front: str  # of its images' names


@dataclass(frozen=True)
class _Made:
    """A tar as we made it."""

    mark: Mark
    lines: str  # hash of the classes and of the journal's lines about its images


class _Part(NamedTuple):
    """What goes into a tar: a file that waits, a member of the tar before, or bytes."""

    name: str
    content: Path | Member | bytes
    size: int


def refuse_beside_shards(kinds: Sequence[str]) -> None:
    """Raise SanError for kinds of results whose files can't go into a tar."""
    others = [kind for kind in kinds if kind not in (*TARRED, *_TOGETHER, SHARDS)]
    if SHARDS in kinds and others:
        raise SanError(
            f"--save {others[0]} makes files that lead to one another, and shards would put them into tars",
            hint=f"With shards go {', '.join(kind for kind in (*TARRED, *_TOGETHER) if kind != 'labels-tiff')}.",
        )


def check_archives(images: Sequence[InputImage], save: Sequence[str], output: Path) -> None:
    """Raise SanError where archives and the results asked for don't go together."""
    _refuse_kinds_with_files(images, save)
    if SHARDS in save:
        _check_tars(images, save, output)


def _refuse_kinds_with_files(images: Sequence[InputImage], save: Sequence[str]) -> None:
    """Raise SanError for results that lead to the files of images, where these lie in archives."""
    asked = [kind for kind in _NEED_FILES if kind in save]
    first = next((image for image in images if isinstance(image.path, Member)), None) if asked else None
    if first is not None:
        raise SanError(
            f"--save {asked[0]} leads to the files of the images, and {printable(str(first.path))} is in an archive",
            hint="Unpack the archive and give the folder, or save coco-polygons or cvat, which go by names.",
        )


def _check_tars(images: Sequence[InputImage], save: Sequence[str], output: Path) -> None:
    """Raise SanError where the images can't have their results in tars, or these would be written over inputs."""
    loose = next((image for image in images if not isinstance(image.path, Member)), None)
    if loose is not None:
        raise SanError(
            f"--save shards is for the images of archives, and {printable(str(loose.path))} is a file of its own",
            hint="Leave shards out, or give such files to a run of their own.",
        )
    owners: dict[str, ResultTar] = {}
    tars = tars_of(images, save)
    inputs = {real_path(tar.archive.path) for tar in tars}
    for tar in tars:
        other = owners.setdefault(name_key(tar.path), tar)
        if other is not tar:
            raise SanError(
                f"the results of {printable(other.archive.path)} and {printable(tar.archive.path)} would go into one "
                f"{printable(tar.path)}",
                hint="Give the archives as a list, which keeps their folders: ls */*.tar | san predict -",
            )
        if real_path(os.fspath(output / tar.path)) in inputs:
            raise SanError(
                f"{printable(tar.path)}, with the results, would be written over an archive of images",
                hint="Choose another folder with -o.",
            )


def tars_of(images: Sequence[InputImage], save: Sequence[str]) -> list[ResultTar]:
    """List the tars of the images' results, in order; none if not asked for."""
    tars: dict[int, ResultTar] = {}
    for image in images if SHARDS in save else ():
        member = image.path
        if isinstance(member, Member) and id(member.archive) not in tars:
            front = image.name[: -len(member.inner)].rstrip("/")
            stem = front or archive_stem(os.path.basename(member.archive.path))  # noqa: PTH119 (a string)
            tars[id(member.archive)] = ResultTar(f"{stem}.tar", member.archive, front)
    return list(tars.values())


def last_of_tars(images: Sequence[InputImage], save: Sequence[str]) -> dict[int, ResultTar]:
    """Give the position of the last image of each archive, and its tar."""
    tars = {id(tar.archive): tar for tar in tars_of(images, save)}
    last = {
        id(image.path.archive): position
        for position, image in enumerate(images if tars else ())
        if isinstance(image.path, Member)
    }
    return {position: tars[archive] for archive, position in last.items()}


def name_in_tar(inner: str, key: str) -> str:
    """Return what a result of an image is called in a tar: by the image's own name there, and the result's kind."""
    return output_stem(inner) + FILES[key.removeprefix(STAGED)][1]


def places_in_tar(image: InputImage, keys: Iterable[str], save: Sequence[str]) -> dict[str, str]:
    """Give kind and path, below the folder of the results and into a tar, of an image's results by their keys."""
    (tar,), inner = tars_of([image], save), cast("Member", image.path).inner
    return {key.removeprefix(STAGED): f"{tar.path}/{name_in_tar(inner, key)}" for key in keys}


class PackedResults:
    """What is in the tars that are there, one at a time: images come archive by archive."""

    def __init__(self, output: Path, images: Sequence[InputImage], save: Sequence[str]) -> None:
        self._output = output
        self._tars = {id(tar.archive): tar for tar in tars_of(images, save)}
        self._latest: tuple[str, dict[str, Member]] = ("", {})

    def has(self, image: InputImage, key: str, mark: Mark | None) -> bool:
        """Tell whether a result of an image is in its tar, as long as its mark says."""
        if not isinstance(image.path, Member) or mark is None or not key.startswith(STAGED):
            return False
        tar = self._tars[id(image.path.archive)]
        if self._latest[0] != tar.path:
            self._latest = tar.path, _members(self._output / tar.path)
        member = self._latest[1].get(name_in_tar(image.path.inner, key))
        return member is not None and member.size == mark.size


def _members(path: Path) -> dict[str, Member]:
    """List the whole members of a tar by name; none where it can't be read."""
    if not path.is_file():
        return {}
    archive = list_archive(os.fspath(path)).archive
    return {
        name: member
        for name, member in archive.members.items()
        if member.offset + member.size <= archive.size
    }


class TarWriter:
    """Makes the tars of a run, of what its journal says is done."""

    def __init__(
        self, output: Path, journal: ImageJournal, classes: Sequence[str], *, by_region: bool
    ) -> None:
        self._output, self._journal = output, journal
        self._classes, self._by_region = classes, by_region

    def pack(self, tar: ResultTar) -> None:
        """Make a tar, unless it is there as it would be made, and remove the files that waited for it.

        SanError for a tar in its place that isn't ours, or if results are missing; OSError where writing fails.
        """
        made = _load(self._output)
        names = list(self._names(tar))
        lines = self._lines(names)
        path = self._output / tar.path
        before = made.get(tar.path)
        if before is None or before.lines != lines or not has_size(path, before.mark):
            parts = self._parts(tar, names, is_ours=before is not None)
            make_folder(self._output, path.parent)
            with atomic_write(path) as stream:
                mark = _write(stream, parts)
            made[tar.path] = _Made(mark, lines)
            _store(self._output, made)
        self._unstage(names)

    def are_whole(self, tars: Sequence[ResultTar]) -> bool:
        """Tell whether all tars are there in full, and none but these."""
        made = _load(self._output)
        return all(
            tar.path in made and has_size(self._output / tar.path, made[tar.path].mark) for tar in tars
        )

    def remove_others(self, tars: Sequence[ResultTar]) -> tuple[str, ...]:
        """Remove the tars that we made, as far as they are still ours to the byte, but these; returns their paths."""
        made = _load(self._output)
        stale = made.keys() - {tar.path for tar in tars}
        removed = tuple(
            path for path in sorted(stale) if remove_made(self._output, path, made.pop(path).mark)
        )
        if stale:
            _store(self._output, made)
        return removed

    def _names(self, tar: ResultTar) -> Iterator[str]:
        """Yield the images of an archive that are done in their present state, by their whole names."""
        for inner, member in tar.archive.members.items():
            entry = self._journal.entries.get(join(tar.front, inner))
            if entry is not None and not entry.failed and same_content(entry.source, source_of(member)):
                yield join(tar.front, inner)

    def _lines(self, names: Sequence[str]) -> str:
        digest = hashlib.blake2b(digest_size=8)
        digest.update(json_text([*self._classes, self._by_region]).encode("ascii"))  # the records have names
        for name in names:
            digest.update(self._journal.raw(name))
        return digest.hexdigest()

    def _parts(self, tar: ResultTar, names: Sequence[str], *, is_ours: bool) -> list[_Part]:
        """List what goes into a tar: what waits for it, and the rest as it is in the tar before."""
        before = _members(self._output / tar.path)
        parts: list[_Part] = []
        for name in names:
            inner = name[len(tar.front) + 1 :] if tar.front else name
            marks = marks_from(self._journal.entries[name].marks)
            for key, path in marked_paths(name, marks).items():
                within = name_in_tar(inner, key)
                waits, old = self._output / path, before.get(within)
                if has_size(waits, marks[key]):
                    parts.append(_Part(within, waits, marks[key].size))
                elif old is not None and old.size == marks[key].size:
                    parts.append(_Part(within, old, old.size))
                else:
                    raise SanError(
                        f"{quoted(self._output / tar.path)} lacks {printable(within)}, which was removed meanwhile",
                        hint="Run the same command again: it makes what is missing.",
                        code=ExitCode.SOME_FAILED,
                    )
            record = self._record(tar, name, inner, marks)
            parts.append(_Part(output_stem(inner) + RECORD_SUFFIX, record, len(record)))
        others = before.keys() - {part.name for part in parts}
        if (others and not is_ours) or (not before and (self._output / tar.path).exists() and not is_ours):
            raise SanError(
                f"{quoted(self._output / tar.path)} is there already and was not made by a run in this folder",
                hint="Choose another folder with -o, or move that file away.",
                code=ExitCode.SOME_FAILED,
            )
        return parts

    def _record(self, tar: ResultTar, name: str, inner: str, marks: Mapping[str, Mark]) -> bytes:
        """Return the line that `--jsonl` prints about an image, without times; its paths are those in the tars."""
        line = image_line(
            self._journal.record(name),
            self._classes,
            input=f"{os.path.basename(tar.archive.path)}/{inner}",  # noqa: PTH119 (a string)
            exif_orientation=self._journal.entries[name].exif_orientation,
            outputs={key.removeprefix(STAGED): name_in_tar(inner, key) for key in marks},
            ms={},
            by_region=self._by_region,
        )
        return line.encode("ascii") + b"\n"

    def _unstage(self, names: Sequence[str]) -> None:
        """Remove files that wait no more."""
        if not (self._output / STAGING).is_dir():
            return
        folders = set()
        for name in names:
            for path in marked_paths(name, marks_from(self._journal.entries[name].marks)).values():
                (self._output / path).unlink(missing_ok=True)
                folders |= set(Path(path).parents[:-2])  # up to the folder of all that waits
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with suppress(OSError):  # not empty
                (self._output / folder).rmdir()


def _write(stream: BinaryIO, parts: Sequence[_Part]) -> Mark:
    """Write a tar that depends on nothing but its parts."""
    hashed: Any = _Hashed(stream)
    with tarfile.open(fileobj=hashed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, size in parts:
            info = tarfile.TarInfo(name)
            info.size = size
            if isinstance(content, Path):
                with content.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info, BytesIO(content if isinstance(content, bytes) else content.read()))
            tar.members.clear()  # type: ignore[attr-defined]
    return Mark(hashed.size, hashed.digest.hexdigest())


class _Hashed:
    """A stream to write to, whose mark comes for free."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.size, self.digest = stream, 0, hashlib.blake2b(digest_size=8)

    def tell(self) -> int:
        return self.size

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._stream.write(data)


def _load(output: Path) -> dict[str, _Made]:
    """Read which tars are ours; none where that can't be read, so that nothing is taken for ours."""
    try:
        rows: dict[str, Any] = json.loads(read_regular(output / STATE_FOLDER / "tars"))
        return {path: _Made(Mark(size, digest), lines) for path, (size, digest, lines) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _store(output: Path, made: Mapping[str, _Made]) -> None:
    rows = {path: [*one.mark, one.lines] for path, one in sorted(made.items())}
    with atomic_write(output / STATE_FOLDER / "tars") as stream:
        stream.write(json_text(rows).encode("ascii"))
