"""Text files with one image stem a line."""

from importlib import resources

from san_cli.errors import ExitCode, SanError
from san_cli.prepare.sources import Member


def read_stems(member: Member) -> tuple[str, ...]:
    """The stems in a list, sorted, each once; SanError for an empty list or one that is not text.

    Of "2007_000033", "JPEGImages/2007_000033.jpg" and "2007_000033 1" it takes the stem.
    """
    try:
        lines = member.read(2**24).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SanError(f"{member} is no text file", code=ExitCode.NO_INPUT) from None
    words = [line.split()[0].replace("\\", "/") for line in lines if line.strip()]
    stems = {word.rpartition("/")[2].partition(".")[0] for word in words} - {""}
    if not stems:
        raise SanError(f"{member} lists no images", code=ExitCode.NO_INPUT)
    return tuple(sorted(stems))


def pascal_context_val() -> frozenset[str]:
    """The 5,104 validation images of PASCAL-Context, as its users list them."""
    file = resources.files(__package__) / "pascal_context_val.txt"
    return frozenset(file.read_text(encoding="ascii").split())
