"""`san doctor`: its options, and the report."""

from typing import Annotated

from san_cli.cli import console, options
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, json_text, printable


def doctor(
    as_json: Annotated[bool, options.json("Print JSON.")] = False, quiet: options.Quiet = False
) -> None:
    """Say whether san works on this machine, and if not, which part of it and the way out.

    Versions, device, cores, memory, weights, extras and settings, and a small
    picture segmented by the model tiny. The text can go into a bug report: it
    has no tokens, and the home folder is ~ in it. Nothing is downloaded.

    \b
    Examples:
      san doctor
      san doctor --json | jq .findings.device
    """
    from san_cli.doctor.examination import as_json as json_of
    from san_cli.doctor.examination import examine, faults, told
    from san_cli.doctor.finding import anonymous

    found = examine()
    if as_json:
        console.write([json_text(json_of(found))])
    else:
        console.write(told(found))
    wrong = faults(found)
    if wrong:
        lines = [f"{one.name}: {anonymous(one.fault)}\n  {anonymous(one.hint)}" for one in wrong[1:]]
        first = wrong[0]
        more = "" if len(wrong) == 1 else f" (and {counted(len(wrong) - 1, 'fault')} more)"
        raise SanError(
            f"{first.name}: {printable(anonymous(first.fault))}{more}",
            hint="\n".join([anonymous(first.hint), *lines]),
            code=ExitCode.USAGE,
        )
    if not quiet:
        console.say("san works here")
