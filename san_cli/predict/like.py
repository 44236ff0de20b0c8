"""`san predict --like DIR`: the settings of a run, taken from its folder and asked for again of other inputs.

A run keeps what its results depend on (settings.py), not the words it was asked with: the classes as they came out,
the weights by their sha256. Its device is not taken over: a machine has what it has.
"""

import csv
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from san_cli.errors import SanError
from san_cli.models.presets import PRESETS
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.request import Inputs, Model, Plan, Words, job_of
from san_cli.predict.settings import FORMAT, asked_settings, settings_file
from san_cli.runs.processes import own_share
from san_cli.runs.settings import Settings, other_settings, read_settings
from san_cli.runs.voice import Voice
from san_cli.text import printable, quoted
from san_cli.vocabulary.grammar import vocabulary_of_names
from san_cli.vocabulary.templates import TEMPLATE_SETS, templates
from san_cli.vocabulary.terms import as_term, word_key
from san_cli.weights.file_hash import remembered_files, weights_sha256
from san_cli.weights.find import locate_weights
from san_cli.weights.hub import OFFICIAL, cached_copies

_LEARNED = "learned"  # kept where there are such words
# Whoever names a vocabulary or a model takes over nothing that is said of another one.
_OF_WORDS = ("vocab", "only", "show", "background", "min-score", "min-confidence")
_OF_MODEL = ("model", "weights")
_OTHERS = ("min-area", "regions", "simplify", "tile", "range", "bands", "compile", "backend")
_SEEN = ("format", "device")  # told of, and not taken over
_KINDS: dict[str, type | tuple[type, ...]] = {
    "format": int, "vocab": list, "templates": list, "save": list, "batch": int, "model": str, "weights": str,
    "precision": str, "min-area": int, "regions": bool, "simplify": (int, float), "tile": (int, str), "compile": bool,
    "only": bool, "backend": str, "learned": dict,
}  # fmt: skip
_SINCE_ALWAYS = ("format", "vocab", "templates", "save", "batch", "model", "weights", "precision")


class Request(NamedTuple):
    """A whole request to `san predict`."""

    inputs: Inputs
    words: Words
    model: Model
    plan: Plan


def like_run(folder: Path, asked: Request, given: Collection[str], voice: Voice) -> Request:
    """Return the request with a run's settings, but for the options `given` on the command line ("min-area").

    SanError for a folder without a run, for settings that can't be taken over, and for weights that aren't here.
    """
    if own_share().index:  # one of torchrun's processes speaks for all
        voice = Voice()
    if os.path.realpath(folder) == os.path.realpath(asked.plan.output):
        raise SanError(
            f"--like {quoted(folder)} names the folder of the results itself",
            hint="For other inputs choose another folder with -o. The run in it goes on by its own command again.",
        )
    found = _settings_in(folder)
    left_out = _left_out(found, given)
    _refuse_learned(folder, found, left_out)
    try:
        request = _taken_over(found, asked, left_out)
        _refuse_changes(folder, found, request, left_out)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, SanError):  # a WrongType
            raise
        raise _damaged(folder) from error
    _tell(folder, found, asked.model.device, given, left_out, voice)
    return request


def _settings_in(folder: Path) -> Settings:
    """Read the settings that a folder keeps; SanError where it holds no run of ours, or one that we don't know."""
    hint = "Give the options themselves instead of --like."
    found = read_settings(settings_file(folder), hint=hint) if folder.is_dir() else None
    if found is None:
        raise SanError(f"--like {quoted(folder)}: {_what_it_is(folder)}", hint=_way_to_run(folder))
    known = {*_SINCE_ALWAYS, *_OF_WORDS, *_OTHERS, *_SEEN, _LEARNED}
    odd = [key for key, kind in _KINDS.items() if key in found and not isinstance(found[key], kind)]
    if odd or any(key not in found for key in _SINCE_ALWAYS) or found["batch"] < 1:
        raise _damaged(folder)
    if found["format"] > FORMAT or not found.keys() <= known:
        raise SanError(
            f"--like {quoted(folder)}: a later san made that run, with settings that this one doesn't know",
            hint=hint,
        )
    return found


def _what_it_is(folder: Path) -> str:
    if not os.path.lexists(folder):
        return "there is no such folder"
    if not folder.is_dir():
        return "that is a file; a run is a folder of results"
    if (folder / ".san-eval").is_dir():
        return "that is a folder of san eval; only runs of san predict keep what it takes"
    if (folder / ".san-train").is_dir() or (folder / "checkpoints").is_dir():
        return f"that is a folder of san train; to segment with what it trained: --weights {quoted(folder)}"
    return f"no run of san predict is in that folder (there is no {STATE_FOLDER}/run.json)"


def _way_to_run(folder: Path) -> str:
    near = [folder / "san-out", *folder.absolute().parents]
    run = next((path for path in near if settings_file(path).is_file()), None)
    there = "" if run is None else f"Did you mean --like {printable(str(run))}? "
    return f"{there}It takes what a run was given with -o."


def _damaged(folder: Path) -> SanError:
    return SanError(
        f"--like {quoted(folder)}: the settings kept there ({STATE_FOLDER}/run.json) are damaged",
        hint="Give the options themselves instead of --like.",
    )


def _left_out(found: Settings, given: Collection[str]) -> set[str]:
    """List the run's settings that the options given stand in for."""
    left_out = set(given)
    if {"vocab", "only"} & left_out:
        by_class = ("min-score", "min-confidence")
        left_out |= {_LEARNED} | {
            key for key in _OF_WORDS if key not in by_class or isinstance(found.get(key), Mapping)
        }
    if set(_OF_MODEL) & left_out:
        left_out |= set(_OF_MODEL)
    return left_out


def _refuse_learned(folder: Path, found: Settings, left_out: Collection[str]) -> None:
    """Raise SanError for learned words: a run keeps what tells their rows from others, not the rows."""
    if not found.get(_LEARNED) or _LEARNED in left_out:
        return
    words = [printable(word) for word in found[_LEARNED]]
    some = ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
    option = "--only" if found.get("only") else "--vocab"
    raise SanError(
        f"--like {quoted(folder)}: words of that run were learned ({some}), and their file is not known from it",
        hint=f"Give its {option} again, besides --like: {option} … with @FILE.words",
    )


def _taken_over(found: Settings, asked: Request, left_out: Collection[str]) -> Request:
    taken = {key: value for key, value in found.items() if key not in left_out}
    reading: dict[str, Any] = {
        key: value if isinstance(value, str) else ",".join(map(str, value))
        for key in ("range", "bands")
        if (value := taken.get(key)) is not None
    }
    plan: dict[str, Any] = {key: taken[key] for key in ("regions", "simplify", "batch") if key in taken}
    if "save" in taken:
        plan["save"] = ",".join(taken["save"]) or "none"
    return Request(
        replace(asked.inputs, **reading),
        _words(taken, asked.words),
        _model(taken, asked.model),
        replace(asked.plan, **plan),
    )


def _words(taken: Settings, words: Words) -> Words:
    changed: dict[str, Any] = {}
    if "vocab" in taken:
        vocabulary = vocabulary_of_names([tuple(entry) for entry in taken["vocab"]])
        changed = {"taken_over": vocabulary, "only": vocabulary.names if taken.get("only") else None}
        background = taken.get("background")
        changed["background"] = background
        changed["show"] = taken.get("show") and [
            name if background and word_key(name) == word_key(background) else as_term(name)
            for name in taken["show"]
        ]
    if "templates" in taken:
        changed["templates"] = _named_templates(tuple(taken["templates"]))
    for key, name in (("min-score", "min_score"), ("min-confidence", "min_confidence")):
        if key in taken:
            changed[name] = _limit_text(taken[key])
    if "min-area" in taken:
        changed["min_area"] = int(taken["min-area"])
    return replace(words, **changed)


def _named_templates(kept: tuple[str, ...]) -> str | tuple[str, ...]:
    return next((name for name, known in TEMPLATE_SETS.items() if known == kept), kept)


def _limit_text(limit: object) -> str:
    """Write a limit as --min-score takes it."""
    if not isinstance(limit, Mapping):
        return repr(float(limit))  # type: ignore[arg-type]
    line = StringIO()
    csv.writer(line, lineterminator="").writerow([f"{name}={value!r}" for name, value in limit.items()])
    return line.getvalue()


def _model(taken: Settings, model: Model) -> Model:
    changed: dict[str, Any] = {
        key: taken[key] for key in ("precision", "compile", "tile", "backend") if taken.get(key) is not None
    }
    changed |= {"tile": str(changed["tile"])} if "tile" in changed else {}
    if "weights" in taken:
        changed["name"], changed["weights"] = _weights(str(taken["model"]), str(taken["weights"]))
    return replace(model, **changed)


def _weights(name: str, sha256: str) -> tuple[str | None, str | None]:
    """Return model and weights as they are asked for; SanError where the file isn't on this machine."""
    if sha256.startswith("random:"):
        if name not in PRESETS:
            raise SanError(
                f"that run had random weights of {quoted(name)}, a preset of somebody's own",
                hint="Name its file: --model FILE.json --weights random",
            )
        return name, "random"
    official = OFFICIAL.get(name)
    near = [path for path in [locate_weights(name)] if path is not None]
    near += [] if official is None else cached_copies(official)
    for path in (*near, *remembered_files(sha256)):
        try:
            if weights_sha256(path) == sha256:
                return None, str(path)
        except (OSError, SanError):
            continue
    if official is not None and official.sha256 == sha256 and not near:
        return name, None  # it is downloaded
    ways = "Name the file: --weights FILE (san looks for its hash among the weights that it has used before)."
    if official is not None and official.sha256 == sha256:
        ways = f"They are the published ones: san weights get {name}, and name the file with --weights FILE."
    raise SanError(
        f"the weights of that run ({printable(name)}, sha256 {printable(sha256)}) are not on this machine",
        hint=ways,
    )


def _tell(
    folder: Path,
    found: Settings,
    device: str,
    given: Collection[str],
    left_out: Collection[str],
    voice: Voice,
) -> None:
    """Say what is taken over, and what isn't."""
    but = [f"--{key}" for key in sorted(given) if key in found]
    also = sorted(key for key in set(left_out) - set(given) if found.get(key) not in (None, False, 0, 0.0))
    text = f"settings of the run in {quoted(folder)}"
    if but:
        text += f", but for {', '.join(but)} as given here"
    if also:
        text += f", which stand in for its {', '.join(also)} too"
    voice.note(text)
    if found["format"] < FORMAT:
        voice.note(
            f"an earlier san made that run (format {found['format']}, now {FORMAT}): what is made now may differ "
            "from its results in some bytes"
        )
    then, now = found.get("device"), device.split(":")[0]
    if now == "auto":
        from san_cli.engine.device import choose_device

        now = choose_device().type
    if then is not None and then != now:
        voice.note(
            f"that run was made on {printable(str(then))}, this one on {now}, which rounds differently"
        )


def _refuse_changes(folder: Path, found: Settings, request: Request, left_out: Collection[str]) -> None:
    """Raise SanError where what was taken over would come to other settings than those that the run kept."""
    job = job_of(*request, Voice())
    now = asked_settings(job, templates(request.words.templates))
    kept = {key: value for key, value in now.items() if key in found and key not in {*left_out, *_SEEN}}
    others = other_settings(found, kept)
    if others:
        raise SanError(
            f"the settings of {quoted(folder)} can't be taken over as they are: {'; '.join(others)}",
            hint="Give these options yourself, besides --like.",
        )
