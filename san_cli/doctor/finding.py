"""What an examination finds: a line for people, values for programs, and a fault where something is wrong."""

import getpass
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|AUTH|CREDENTIAL|COOKIE", re.IGNORECASE)
_IN_VALUE = re.compile(
    r"\b(hf|ghp|gho|sk)[_-]\w{8,}|(?<=://)[^/@\s]+@"
)  # tokens, and who asks, in an address


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fault` says what keeps san from working, `hint` the way out."""

    name: str  # of the line; with _ for blanks the key in JSON
    told: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    hint: str = ""


def looked_at(name: str, look: Callable[[], Finding]) -> Finding:
    """Return what `look` finds; where looking itself fails, that. An examination ends at nothing."""
    try:
        return look()
    except Exception as error:
        reason = first_line(error)
        return Finding(name, f"can't be told: {reason}", {"error": reason})


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    text = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown_variable(name: str, value: str) -> str:
    """Return an environment variable's value as it may be shown: nothing secret."""
    if _SECRET.search(name):
        return "(set, not shown)"
    return _IN_VALUE.sub("…", value)


def anonymous(value: Any) -> Any:
    """Return text, or all texts in JSON, without the name of who asks: the home folder is ~, the name USER."""
    if isinstance(value, str):
        home, user = _who()
        if home:
            value = re.sub(rf"{re.escape(home)}(?=$|[/\\:;,'\")\s])", "~", value)
        return re.sub(rf"(?<=[/\\]){re.escape(user)}(?=$|[/\\:;,'\")\s])", "USER", value) if user else value
    if isinstance(value, Mapping):
        return {key: anonymous(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [anonymous(one) for one in value]
    return value


@cache
def _who() -> tuple[str, str]:
    """Return the home folder and the user's name, empty where there is none."""
    home = os.path.expanduser("~")  # noqa: PTH111 (which may have no answer)
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name
        user = ""
    return ("" if home in ("~", "/") else home.rstrip("/\\")), user
