"""Typer's commands, changed: a --help that fits any width, mistakes told in our words, --debug in each."""

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from san_cli.cli import console, options
from san_cli.cli.usage_errors import told_in_our_words, unknown_command
from san_cli.errors import EXIT_CODE_HELP


class _Ours:
    """Mixin for Typer's classes of commands and groups of commands."""

    epilog: str | None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        told, examples = flowing(settings.get("help") or "")
        after = [*examples, settings.get("epilog") or "", EXIT_CODE_HELP]
        settings |= {"help": told, "epilog": "\n\n".join(filter(None, after))}
        super().__init__(*arguments, **settings)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with told_in_our_words(self):
            return super().make_context(*arguments, **settings)  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page; below it examples and exit codes line by line, as Typer would fill and unindent them."""
        below, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)  # type: ignore[misc]
        self.epilog = below
        formatter.write("".join(f" {line}".rstrip() + "\n" for line in ["", *(below or "").splitlines()]))

    def get_params(self, ctx: Any) -> list[Any]:
        """List all parameters; where only a type could be shown beside one, nothing is ("<bool>", "<list[str]>")."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: ""
        return parameters


class Command(_Ours, TyperCommand):
    """A command of `san`."""


class Group(_Ours, TyperGroup):
    """`san` itself, or a group of its commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names; SanError with the way out for any other word."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-") and not ctx.resilient_parsing:
            raise unknown_command(word, self, ctx.command_path)
        return super().resolve_command(ctx, args)


def make_ours(app: typer.Typer) -> None:
    """Give all commands of `app` these classes and --debug; groups get theirs where they are made."""
    for command in app.registered_commands:
        command.cls = Command
        if command.callback is not None:
            command.callback = _with_debug(command.callback)


def _with_debug(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function of a command with one more option, --debug, which it needn't know of."""

    @wraps(function)
    def run(*, debug: bool, **arguments: Any) -> None:
        console.show_tracebacks(debug)
        function(**arguments)

    # Typer makes the options from the signature.
    signature = inspect.signature(function, eval_str=True)
    debug = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=options.Debug
    )
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), debug])  # type: ignore[attr-defined]
    return run


def flowing(text: str) -> tuple[str, list[str]]:
    """Split a help text: one whose paragraphs fill any width, and those of examples, line by line.

    The latter begin with a line of `\\b`.
    """
    told, examples = [], []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("\b"):
            examples.append(paragraph.removeprefix("\b").strip("\n"))
        else:
            told.append(" ".join(line.strip() for line in paragraph.splitlines()))
    return "\n\n".join(told), examples
