"""Mistakes on the command line, found before a command begins: one sentence, and the way out."""

import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from san_cli.errors import ExitCode, SanError, did_you_mean
from san_cli.text import nearest, printable

# Typer's own since 0.17, Click's before that.
_UsageError: Any = typer.BadParameter.__base__

# What people used to other programs ask for, and what it is called here: the first that the command has.
_OPTIONS = {
    "--version": ("v",),
    "--vocab": (
        "vocabulary",
        "class",
        "classes",
        "categories",
        "labels",
        "names",
        "prompt",
        "prompts",
        "text",
    ),
    "--weights": ("checkpoint", "ckpt", "pretrained", "model-path", "weight", "init-from"),
    "--device cuda": ("gpu", "cuda", "gpus"),
    "--device cpu": ("cpu", "no-gpu"),
    "--precision bf16": ("fp16", "half", "bf16", "amp", "dtype"),
    "--min-score": ("threshold", "conf", "confidence", "score", "conf-threshold"),
    "--save": ("format", "save-overlay", "save-labels", "html", "overlay", "mask"),
    "--output": ("save-dir", "dir", "dest", "destination", "work-dir", "o"),
    "--overwrite": ("force", "f", "y", "yes", "clobber"),
    "--iterations": ("epochs", "steps", "max-iter", "iters"),
    "--data-root": ("data", "root", "dataset", "datasets"),
    "--debug": ("verbose", "v", "traceback"),
    "--images": ("image-dir", "image", "input"),
    "--dry-run": ("dryrun", "n", "plan", "simulate", "just-print", "no-op"),
    "--like": ("config", "cfg", "settings", "same-as", "from-run"),
    "--templates": ("template", "prompt-templates"),
}
_COMMANDS = {
    "predict": ("segment", "run", "infer", "inference", "detect", "label", "demo", "test-images", "seg"),
    "eval": ("evaluate", "test", "score", "val", "validate", "benchmark", "miou"),
    "train": ("finetune", "fine-tune", "fit", "learn"),
    "fps": ("bench", "speed", "flops", "profile", "time"),
    "doctor": ("env", "info", "diagnose", "health", "self-test", "check", "collect-env"),
    "vocab": ("vocabulary", "classes", "names"),
    "weights": ("model", "models", "download", "checkpoint", "checkpoints"),
    "data": ("dataset", "datasets", "prepare"),
    "get": ("download", "fetch", "install", "pull"),
    "list": ("ls", "all"),
    "show": ("print", "cat"),
    "verify": ("check", "sha256"),
    "check": ("verify", "validate"),
}
_USUAL = {"vocab": "show", "weights": "get", "data": "check"}  # what a name alone is probably meant for


@contextmanager
def told_in_our_words(command: Any) -> Iterator[None]:
    """Turn what Typer finds wrong with the words after `command` into a SanError."""
    try:
        yield
    except _UsageError as error:
        kind = type(error).__name__
        if kind == "NoArgsIsHelpError":  # its message is the rest of the help
            typer.echo(error.format_message(), nl=False)
            raise typer.Exit(ExitCode.USAGE) from None
        path = f"san {command.name}" if error.ctx is None else error.ctx.command_path
        if kind == "NoSuchOption":
            message = f"there is no option {error.option_name}"
            hint = _meant(error.option_name, command, path)
        elif kind == "MissingParameter":
            message = f"{error.param.metavar or error.param.name.upper()} is missing"
            hint = _example(command)
        else:
            message, hint = _sentence(error), ""
        raise _told(message, hint, f"`{path} --help` explains its options.") from None


def unknown_command(word: str, group: Any, path: str) -> SanError:
    """Return the error for a word that stands where a command of `group` should."""
    commands = list(group.commands)
    others = [name for name in commands if word.casefold() in _COMMANDS.get(name, ())]
    likely = others[0] if others else nearest(word, commands)
    if word == "help":
        hint = f"Write {path} --help, or --help after a command."
    elif likely:
        hint = did_you_mean(f"{path} {likely}")
    elif group.name in _USUAL and not _is_input(word):
        hint = did_you_mean(f"{path} {_USUAL[group.name]} {shlex.quote(word)}")
    elif "predict" in commands and _is_input(word):
        hint = f"To segment it: {path} predict {shlex.quote(word)}"
    else:
        hint = ""
    listed = f"There are {', '.join(commands[:-1])} and {commands[-1]}; `{path} --help` says what they do."
    return _told(f"there is no command '{word}'", hint, listed)


def _told(message: str, *hints: str) -> SanError:
    return SanError(printable(message), hint="\n".join(printable(hint) for hint in hints if hint))


def first_example(epilog: str) -> str:
    """Return the first command line under "Examples:" in a command's help, empty if there is none."""
    found = re.search(r"Examples?:\n\s*((?:.*\\\n)*.*)", epilog)
    return " ".join(found[1].replace("\\\n", " ").split()) if found else ""


def _example(command: Any) -> str:
    example = first_example(command.epilog or "")
    return f"Such as: {example}" if example else ""


def _is_input(word: str) -> bool:
    """Tell whether `word` is what `san predict` takes rather than a command."""
    try:
        return Path(word).exists() or any(mark in word for mark in "./\\*~")
    except (OSError, ValueError):
        return False


def _options(command: Any) -> list[str]:
    return [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]


def _meant(option: str, command: Any, path: str) -> str:
    """Return the hint for an option that isn't there."""
    own = _options(command)
    likely = _nearest_option(option, own)
    if likely:
        return did_you_mean(likely)
    if not option.startswith("--"):
        return ""
    for name, other in getattr(command, "commands", {}).items():
        likely = _nearest_option(option, _options(other))
        if likely:
            return f"Options stand after the command: {path} {name} … {likely}"
    return ""


def _nearest_option(option: str, known: Iterable[str]) -> str:
    longs = [name for name in known if name.startswith("--")]
    asked = option.lstrip("-").casefold().replace("_", "-")
    if f"--{asked}" in longs:
        return f"--{asked}"
    for name, others in _OPTIONS.items():
        if asked in others and name.split()[0] in longs:
            return name
    longer = [name for name in longs if len(asked) > 1 and name.startswith(f"--{asked}")]
    shorter = [name for name in longs if asked.startswith(f"{name[2:]}-")]
    return next(iter(longer + shorter), nearest(f"--{asked}", longs, 0.7) or "")


def _sentence(error: Any) -> str:
    """Return what Typer says as a sentence like our own."""
    text = str(error.format_message()).strip().rstrip(".")
    text = re.sub(r"^Invalid value for '([^']*)': (?:Input should|Value should)", r"\1 must", text)
    text = re.sub(r"^Invalid value for '([^']*)': ", r"\1: ", text)
    text = re.sub(r"^Option '([^']*)' requires an argument$", r"\1 needs a value", text)
    text = re.sub(r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", r"too many words: \1", text)
    text = re.sub(r", unable to parse .*$", "", text)
    text = text.replace("a valid integer", "a whole number").replace("a valid number", "a number")
    text = text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return text[:1].lower() + text[1:]
