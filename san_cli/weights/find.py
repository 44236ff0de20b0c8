"""Finding a model's weights: in files the user named, in the usual folders, in the cache, on the hub."""

import os
from collections.abc import Callable
from pathlib import Path

from san_cli.errors import SanError
from san_cli.models.presets import PRESETS, get_preset
from san_cli.weights.file_hash import rehash, remembered_sha256, states_hash, weights_sha256
from san_cli.weights.hub import OFFICIAL, OfficialFile, cached_copies, download, good_copy, ways_to_get
from san_cli.weights.hub_name import hub_name, looks_like_repository
from san_cli.weights.kind import HEAD, kind_of_archive, kind_of_bytes, kind_of_folder
from san_cli.weights.repository import hub_file, hub_file_or_source
from san_cli.weights.training_folder import model_of_training

_NAME_A_FILE = "Name a .pth or .safetensors file; `san weights list` shows what is here."
_NAME_ANY = (
    "Name a .pth or .safetensors file, or a folder that holds one; without a name the published weights are used. "
    "Without any file: --model tiny knows emoji scenes, --weights random shows how fast a model is."
)
_PACKAGE = Path(__file__).resolve().parent.parent
_IN_WHEEL, _IN_CLONE = _PACKAGE / "bundled", _PACKAGE.parent / "weights"
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CLONE  # what is shipped: setup.py copies one to the other


def find_weights(
    preset_name: str, weights: str | os.PathLike[str] | None, *, say: Callable[[str], None]
) -> Path:
    """Find the weights file to load for a preset; downloads an official one as the last resort.

    Order: `weights` (a file, a folder that holds one, a file on the hub: `named_file`), `$SAN_WEIGHTS` (likewise),
    `weights/` in the working directory, the folder shipped with the program, the Hugging Face cache, the hub. What
    the cache or the hub gives must have the pinned sha256. A file of the user's own is taken as it is, unless it is
    damaged (against its own header or the published file), empty, a web page or an LFS pointer. `say` takes lines
    for stderr. Raises SanError.
    """
    found = weights_or_source(preset_name, weights, say=say)
    if isinstance(found, Path):
        return found
    named = weights if weights is not None else local_weights(preset_name)
    if named is None:
        return download(found, say=say)
    return _accepted(named_file(os.fspath(named), say=say), preset_name, say)


def weights_or_source(
    preset_name: str, weights: str | os.PathLike[str] | None, *, say: Callable[[str], None]
) -> Path | OfficialFile:
    """Find the weights file as `find_weights` does, or tell what that would download; SanError as there."""
    local = local_weights(preset_name) if weights is None else None
    if weights is not None or local is not None:
        found = (
            _named(os.fspath(weights), preset_name, say)
            if weights is not None
            else named_or_source(str(local), say=say)
        )
        return _accepted(found, preset_name, say) if isinstance(found, Path) else found
    official = OFFICIAL.get(preset_name)
    if official is None:
        raise _nothing_found(preset_name)
    return good_copy(official, say) or official


def local_weights(preset_name: str) -> Path | None:
    """Find the file that `$SAN_WEIGHTS` or a `weights/` folder holds for the preset, if any; content not checked.

    A `$SAN_WEIGHTS` that isn't a folder is returned even if nothing is there; a folder without this model is
    passed over.
    """
    named = [expanded(Path(value)) for value in [os.environ.get("SAN_WEIGHTS", "").strip()] if value]
    if named and not os.path.isdir(named[0]):  # noqa: PTH112 (no error for what can't be looked at)
        return named[0]
    for folder in [*named, Path("weights"), SHIPPED]:
        found = _in_folder(folder, preset_name)
        if found is not None:
            return found
    return None


def locate_weights(preset_name: str) -> Path | None:
    """Find a model's weights on this machine, as `find_weights` would without a download; content not checked."""
    cached = cached_copies(OFFICIAL[preset_name]) if preset_name in OFFICIAL else []
    return local_weights(preset_name) or next(iter(cached), None)


def weights_here(model: str) -> Path:
    """Find the weights of a model, or of a JSON file's preset, on this machine; SanError where there are none."""
    preset_name = get_preset(model).name
    found = locate_weights(preset_name)
    if found is not None:
        return found
    if preset_name in OFFICIAL:
        hint = f"Download them: san weights get {preset_name}"
    elif preset_name in PRESETS:
        hint = "They come with san: install it again."
    else:
        hint = f"Put {preset_name}.safetensors into $SAN_WEIGHTS or weights/."
    raise SanError(f"no weights of {preset_name} on this machine", hint=hint)


def file_names(preset_name: str) -> list[str]:
    """List the names under which a folder may hold the preset's weights, the preferred one first."""
    official = OFFICIAL.get(preset_name)
    if official is None:
        return [f"{preset_name}.safetensors"]
    stem = official.filename.removesuffix(".pth")
    return [f"{stem}.safetensors", f"{preset_name}.safetensors", official.filename]


def verify_sha256(path: Path) -> tuple[str, str]:
    """Hash the file again, in one reading: its sha256 and, in words, what that was found equal to.

    Raises SanError if it differs from the published file's, from what the file's own header says or from the
    hash of an earlier use.
    """
    check_is_weights(path)
    remembered = remembered_sha256(path)
    found = rehash(path)
    for official in OFFICIAL.values():
        if found == official.sha256:
            return found, f"the published {official.filename}"
    _refuse_damaged_copy(path, found)
    if remembered not in (None, found):
        raise SanError(
            f"'{path}' has changed, though not its size or date: sha256 {found}, before {remembered}",
            hint="The disk or a program has damaged it: get or make the file again.",
        )
    if states_hash(path):  # and it is right: `rehash` has compared it
        return found, "as it was written"
    return found, "unchanged since its first use" if remembered else "nothing to compare it with yet"


def check_is_weights(path: Path, hint: str = _NAME_A_FILE) -> int:
    """Check that a file isn't obviously something else; its size in bytes. Raises SanError that says what it is.

    `hint` is the way out where there is no such file.
    """
    try:
        if path.exists() and not path.is_file():
            what = "it is a folder" if path.is_dir() else "not a file"
            raise SanError(f"can't read weights '{path}': {what}", hint=kind_of_folder(path) or hint)
        with path.open("rb") as file:
            start = file.read(HEAD)
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise cant_read(path, error, hint) from error
    what = kind_of_bytes(start, path.suffix) or (kind_of_archive(path) if start[:2] == b"PK" else "")
    if what:
        raise SanError(
            f"'{path}' holds no weights: it is {what}",
            hint="A SAN is a .pth of the authors or a .safetensors of ours: `san weights get NAME` downloads and "
            "checks one.",
        )
    return size


def cant_read(path: Path, error: Exception, hint: str = _NAME_A_FILE) -> SanError:
    """Make the SanError for a weights file that isn't there, or can't be read."""
    if os.environ.get("SAN_WEIGHTS") == str(path):
        hint = f"$SAN_WEIGHTS names it: unset it, or correct it. {hint}"
    elif looks_like_repository(str(path)):
        hint = f"If it is a repository on the hub: hf:{path}\n{hint}"
    return SanError(f"can't read weights '{path}': {getattr(error, 'strerror', None) or error}", hint=hint)


def named_file(named: str | Path, *, say: Callable[[str], None], clip: bool = False) -> Path:
    """Find the file that a name stands for: a path's own, a file on the hub, a training's best model.

    `say` is told what was chosen; `clip`: a pretrained CLIP is looked for, not a SAN. Whether the file is there, and
    what it holds, is not looked at. Raises SanError for what the hub doesn't give.
    """
    on_hub = hub_name(str(named))
    return _path_named(named, say) if on_hub is None else hub_file(on_hub, say=say, clip=clip)


def named_or_source(named: str | Path, *, say: Callable[[str], None]) -> Path | OfficialFile:
    """Find the file that a name stands for as `named_file` does, or tell what that would download."""
    on_hub = hub_name(str(named))
    return _path_named(named, say) if on_hub is None else hub_file_or_source(on_hub, say=say)


def _path_named(named: str | Path, say: Callable[[str], None]) -> Path:
    path = expanded(Path(named))
    if os.path.isdir(path):  # noqa: PTH112
        return model_of_training(path, say=say) or path
    return path


def _named(named: str, preset_name: str, say: Callable[[str], None]) -> Path | OfficialFile:
    """The file that the user named, or the model's file in the folder that the user named."""
    path = expanded(Path(named))
    if not os.path.isdir(path):  # noqa: PTH112
        found = named_or_source(named, say=say)
        if not isinstance(found, Path):
            return found
        path = found
        if not os.path.lexists(path) and str(path) in (*OFFICIAL, "tiny"):
            raise SanError(
                f"'{path}' is a model's name, no file", hint=f"Its weights are found by --model {path}."
            )
        return path
    inside = _in_folder(path, preset_name) or model_of_training(path, say=say)
    if inside is None:
        message = f"--weights: no weights of {preset_name} in folder '{path}'"
        looked = f"Looked for {', '.join(file_names(preset_name))}."
        raise SanError(message, hint=f"{looked} {kind_of_folder(path)}".rstrip())
    return inside


def expanded(path: Path) -> Path:
    """Expand a `~` that no shell has, as in `--weights=~/b.pth`, unless it is a file's name."""
    if not str(path).startswith("~") or os.path.exists(path):  # noqa: PTH110
        return path
    return Path(os.path.expanduser(path))  # noqa: PTH111 (a name that nobody has stays as it is)


def _in_folder(folder: Path, preset_name: str) -> Path | None:
    files = (folder / name for name in file_names(preset_name))
    return next((file for file in files if os.path.isfile(file)), None)  # noqa: PTH113


def _nothing_found(preset_name: str) -> SanError:
    names = " or ".join(file_names(preset_name))
    return SanError(
        f"no weights of {preset_name} found, and none are published",
        hint=f"Looked for {names} in $SAN_WEIGHTS, weights/ and {SHIPPED}. Name the file: --weights FILE.",
    )


def _accepted(path: Path, preset_name: str, say: Callable[[str], None]) -> Path:
    """Return `path` once it is known not to be damaged or something that only looks like weights."""
    size = check_is_weights(path, _NAME_ANY)
    _refuse_damaged_copy(path, weights_sha256(path))
    with path.open("rb") as file:
        start = file.read(9)
    if start[:2] != b"PK" and start[:1] != b"\x80" and start[8:] != b"{":  # zip, pickle, safetensors
        raise SanError(
            f"'{path}' holds no weights: it is neither a .pth nor a .safetensors file",
            hint="Name a .pth or .safetensors file, or a folder that holds one.",
        )
    official = OFFICIAL.get(preset_name)
    if official is not None and path.name == official.filename and size != official.size:
        say(f"'{path}' is not the published file of that name ({size} bytes, not {official.size})")
    return path


def _refuse_damaged_copy(path: Path, sha256: str) -> None:
    """Raise SanError for a file as long as a published one, to the byte, with other content: a damaged copy."""
    for official in OFFICIAL.values():
        if path.stat().st_size == official.size and sha256 != official.sha256:
            raise SanError(
                f"'{path}' is a damaged {official.filename}: sha256 {sha256}, expected {official.sha256}",
                hint=f"Delete it, or name another file.\n{ways_to_get(official)}",
            )
