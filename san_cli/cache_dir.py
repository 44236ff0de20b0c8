"""Where san keeps what it can always compute again: file hashes and text embeddings."""

import os
import tempfile
from pathlib import Path


def cache_dir() -> Path:
    """`$SAN_HOME`, else `$XDG_CACHE_HOME/san`, else `~/.cache/san`; not created here.

    An account without a home folder (some containers) gets a folder of its own in the system's temporary one.
    """
    if home := os.environ.get("SAN_HOME"):
        return Path(home)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if Path(xdg).is_absolute():  # the XDG specification: a relative path is to be ignored
        return Path(xdg) / "san"
    try:
        return Path.home() / ".cache" / "san"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"san-cache-{os.getuid()}"
