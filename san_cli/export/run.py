"""`san export` from what was asked for to the files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.engine.onnx_file import SUFFIX as ONNX_SUFFIX
from san_cli.engine.onnx_file import is_onnx, read_description
from san_cli.errors import ExitCode, SanError
from san_cli.export.text_file import SUFFIX as TEXT_SUFFIX
from san_cli.export.text_file import TextRows, is_text_file, write_text_rows
from san_cli.files import sweep_stale
from san_cli.models.presets import own_vocabulary
from san_cli.runs.voice import Voice
from san_cli.text import printable, quoted
from san_cli.vocabulary.grammar import Vocabulary, parse_vocabulary
from san_cli.vocabulary.templates import templates as template_set

if TYPE_CHECKING:
    from san_cli.engine.loading import LoadedWeights


@dataclass(frozen=True)
class Wanted:
    """The files to write, from which model, and the words of one of them."""

    onnx: Path | None = None
    text: Path | None = None
    model: str | None = None
    weights: str | None = None
    vocab: Sequence[str] | None = None
    templates: str = "vild"


def export(wanted: Wanted, voice: Voice) -> ExitCode:
    """Write the files; their paths go to stdout. SanError for whatever keeps them from being written."""
    _check(wanted)
    template_set(wanted.templates)
    vocabulary = parse_vocabulary(list(wanted.vocab)) if wanted.vocab else None

    # Importing torch takes seconds: only now.
    from san_cli.engine.loading import load_weights
    from san_cli.engine.onnx_export import refuse_without_onnx, write_onnx
    from san_cli.engine.onnx_loading import load_onnx

    if wanted.onnx is not None:
        refuse_without_onnx()
    load = load_onnx if is_onnx(wanted.weights) else load_weights
    loaded = load(wanted.model, wanted.weights, say=voice.warn)
    for path in filter(None, (wanted.onnx, wanted.text)):
        sweep_stale(path.parent, below=False)  # what an export that was killed left there
    if wanted.onnx is not None:
        write_onnx(loaded, wanted.onnx, template_set(wanted.templates))
        _tell_written(wanted.onnx, f"{loaded.checkpoint.preset.name}, for any vocabulary", voice)
    if wanted.text is not None:
        vocabulary = vocabulary or parse_vocabulary([own_vocabulary(loaded.checkpoint.preset)])
        _write_text(wanted.text, _text_rows(loaded, vocabulary, wanted, voice))
        _tell_written(wanted.text, f"{len(vocabulary)} classes, {len(vocabulary.words)} words", voice)
    return ExitCode.DONE


def _check(wanted: Wanted) -> None:
    """Raise SanError for what can be seen to be wrong before anything is loaded."""
    if wanted.onnx is None and wanted.text is None:
        raise SanError(
            "nothing to export",
            hint="--onnx FILE.onnx writes the network, --text FILE.npz a vocabulary's words.",
        )
    if wanted.vocab and wanted.text is None:
        raise SanError(
            "an ONNX file has no words in it: they are an input", hint="Write them beside it: --text FILE.npz"
        )
    if wanted.onnx is not None:
        if is_onnx(wanted.weights):
            raise SanError(
                f"{quoted(wanted.weights)} is an ONNX file already",
                hint="Leave --onnx out, or name the weights that it was made from.",
            )
        _refuse_target(wanted.onnx, ONNX_SUFFIX, _is_ours)
    if wanted.text is not None:
        _refuse_target(wanted.text, TEXT_SUFFIX, is_text_file)


def _is_ours(path: Path) -> bool:
    """Tell whether a file is an ONNX file of ours."""
    try:
        read_description(path)
    except SanError:
        return False
    return True


def _refuse_target(path: Path, suffix: str, is_ours: Callable[[Path], bool]) -> None:
    """Raise SanError unless a file can be written there; one that we have written before is replaced."""
    if path.is_dir():
        raise SanError(
            f"{quoted(path)} is a folder", hint=f"Name the file in it: {printable(str(path))}/san{suffix}"
        )
    if path.suffix.lower() != suffix:
        name = path.with_suffix(suffix).name if path.name else f"san{suffix}"
        raise SanError(
            f"the file must end in {suffix}, not {quoted(path.name)}", hint=f"Name it {printable(name)}"
        )
    if os.path.lexists(path) and not is_ours(path):
        raise SanError(
            f"{quoted(path)} exists already, and san didn't write it",
            hint="Delete it first, or choose another name.",
        )
    if not path.parent.is_dir():
        raise SanError(f"no folder {quoted(path.parent)} to write to", hint="Make it first: mkdir -p FOLDER")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SanError(f"the folder {quoted(path.parent)} can't be written to", hint="Choose another one.")


def _text_rows(loaded: "LoadedWeights", vocabulary: Vocabulary, wanted: Wanted, voice: Voice) -> TextRows:
    """Embed the words."""
    import torch

    from san_cli.engine.segmenter import Segmenter

    for note in vocabulary.notes:
        voice.note(note)
    segmenter = Segmenter(
        loaded.checkpoint,
        loaded.text_tower,
        weights_sha256=loaded.sha256,
        device=torch.device("cpu"),
        precision=torch.float32,
        templates=wanted.templates,
        network=loaded.network,
    )
    with voice.progress("embedding words", len(vocabulary.words)) as step:
        segmenter.embed(vocabulary, step)
    rows = segmenter.text_rows(vocabulary).numpy()
    source = loaded.sha256  # an ONNX file says whose text tower is its own
    if wanted.weights is not None and is_onnx(wanted.weights):
        source = read_description(Path(wanted.weights)).weights_sha256
    return TextRows(vocabulary, rows, segmenter.templates, source)


def _write_text(path: Path, text: TextRows) -> None:
    try:
        write_text_rows(text, path)
    except OSError as error:
        raise SanError(
            f"{quoted(path)} can't be written ({error.strerror or error})", code=ExitCode.SOME_FAILED
        ) from error


def _tell_written(path: Path, what: str, voice: Voice) -> None:
    voice.tell(f"wrote {printable(str(path))}: {what}, {path.stat().st_size / 1e6:.1f} MB")
    voice.data(str(path.absolute()))
