"""The `san` command: a Typer app whose subcommands import torch only when they run."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from san_cli import __version__
from san_cli.cli import console
from san_cli.cli.commands import Group, make_ours
from san_cli.cli.convert import convert
from san_cli.cli.data import app as data_app
from san_cli.cli.doctor import doctor
from san_cli.cli.eval import evaluate
from san_cli.cli.export import export
from san_cli.cli.fps import fps
from san_cli.cli.predict import predict
from san_cli.cli.status import status
from san_cli.cli.train import train
from san_cli.cli.vocab import app as vocab_app
from san_cli.cli.weights import app as weights_app
from san_cli.errors import ExitCode, SanError


class _San(Group):
    """The group of all commands; ends an interrupted one with a sentence, and one whose reader has gone without."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _quiet_without_reader():
            return super().make_context(*arguments, **options)  # prints --help and --version

    def invoke(self, ctx: Any) -> Any:
        try:
            with _quiet_without_reader():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SanError(
                "interrupted",
                hint="What is written is complete; run the same command again to go on.",
                code=ExitCode.INTERRUPTED,
            ) from None


@contextmanager
def _quiet_without_reader() -> Iterator[None]:
    """End with 0 and without a word when the reader of our stdout has gone (`| head`)."""
    try:
        yield
    except BrokenPipeError:
        pass
    except SystemExit as ended:  # Rich's way to say it
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
    else:
        return
    # Python would complain again when it flushes stdout at exit, so give it somewhere to flush to.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise typer.Exit(ExitCode.DONE) from None


app = typer.Typer(
    name="san",
    cls=_San,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(predict)
app.command("eval")(evaluate)
app.command()(convert)
app.command()(status)
app.command()(export)
app.command()(fps)
app.command()(train)
app.command()(doctor)
make_ours(app)
for name, group in (("data", data_app), ("vocab", vocab_app), ("weights", weights_app)):
    app.add_typer(group, name=name, cls=Group)
    make_ours(group)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"san {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Segment images with any vocabulary you type (Side Adapter Network, CVPR 2023).

    \b
    Examples:
      san predict examples/scenes --model tiny
      san predict photos --vocab coco+"golden retriever"
      san predict --help
    """


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end_as_by_ctrl_c() -> None:
    """Let SIGTERM and a terminal that closes end us like Ctrl-C; under `nohup` the latter stays ignored."""
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _occupy_closed_streams() -> None:
    """Put /dev/null where a standard stream is closed: the next file opened would be taken for that stream."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)


def _share_cores() -> None:
    """Let PyTorch's threads sleep where they wait for one another, unless somebody has chosen how they wait.

    They would spin, at the end of every operation, which on a core that another process wants too is time that the
    thread waited for doesn't get. Waking them costs tiny a sixth of its rate on an idle machine, and ViT-B/16 nothing
    that we could measure; beside a busy process both are half as fast again. OpenMP reads it when PyTorch is loaded.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def main() -> None:
    """Run the CLI; the one place where exceptions become a sentence on stderr and an exit code."""
    # Before torch is loaded: its matrix products then give the same bits with any number of threads, so that a
    # process of torchrun, which has one, writes what a process of its own does. No slower, as far as we measured.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    _share_cores()
    _occupy_closed_streams()
    console.guard_stdout()
    _end_as_by_ctrl_c()
    try:
        app(prog_name="san")
    except SanError as error:
        console.error(error.message, error.hint)
        sys.exit(error.code)
    except KeyboardInterrupt:  # before the command has begun, or a second one while it ends
        sys.exit(ExitCode.INTERRUPTED)
