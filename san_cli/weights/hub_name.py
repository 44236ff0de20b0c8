"""The name of a file in anybody's repository on the Hugging Face hub: `hf:OWNER/REPO[@REVISION][/FILE]`."""

import os
import re
import urllib.parse
from dataclasses import dataclass

from san_cli.errors import SanError
from san_cli.text import quoted

_FORM = "hf:OWNER/REPO, hf:OWNER/REPO@REVISION or hf:OWNER/REPO/FILE.safetensors"
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_REPO = re.compile(rf"{_PART}/{_PART}", re.ASCII)
# A pull request's revision has slashes in its name; of a branch they are written %2F.
_NAME = re.compile(r"([^/@]+/[^/@]+)(?:@(refs/(?:pr|convert)/[^/@]+|[^/]*))?(?:/(.*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(.*)", re.IGNORECASE)
_FILE_PAGES = ("resolve", "blob", "tree", "raw")  # what stands before the revision in the hub's addresses
_READABLE = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".ckpt", ".onnx")


@dataclass(frozen=True)
class HubName:
    """A repository, a revision of it, and the file in it that was named."""

    repo: str  # OWNER/NAME
    revision: str = "main"  # branch, tag or commit
    file: str = ""  # or a folder there; "": whichever it holds

    @property
    def is_pinned(self) -> bool:
        """Tell whether it means the same bytes for ever."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf:{self.repo}{revision}{self.file and '/'}{self.file}"


def hub_name(text: str) -> HubName | None:
    """Read the name of a file on the hub, or its address there; None for anything else, such as a path.

    Raises SanError for a name that is misspelt, and for an address of another server.
    """
    if os.path.lexists(text):
        return None
    text = re.sub(r"^(https?):/+", r"\1://", text.strip())  # a path has lost one of the slashes
    if named := re.match(r"hf:/*", text, re.IGNORECASE):
        return _read(text[named.end() :], text)
    if page := _PAGE.fullmatch(_at_hugging_face(text)):
        return _of_page(page[1], text)
    if re.match(r"[a-z][a-z0-9+.-]+://?\S", text, re.IGNORECASE):
        raise SanError(
            f"{quoted(text)} is an address, and san downloads from the Hugging Face hub alone",
            hint="Download it: curl -L -o FILE ADDRESS, and name that file. Of the hub name it hf:OWNER/REPO",
        )
    return None


def looks_like_repository(text: str) -> bool:
    """Tell whether a path that isn't there could be meant as a repository on the hub."""
    return _REPO.fullmatch(text) is not None and not text.endswith(_READABLE)


def _read(name: str, text: str) -> HubName:
    name = name.removeprefix("models/") if name.count("/") > 1 else name
    found = _NAME.fullmatch(name.rstrip("/"))
    if found is None or not _REPO.fullmatch(found[1]) or found[2] == "":
        raise SanError(f"{quoted(text)} names no file on the hub", hint=f"Write {_FORM}.")
    revision = urllib.parse.unquote(found[2] or "main")
    return HubName(found[1], _sound(revision, text), _sound(found[3] or "", text))


def _of_page(path: str, text: str) -> HubName:
    """Read what stands behind the server in an address of the hub's web pages."""
    path = urllib.parse.unquote(re.split(r"[?#]", path)[0]).strip("/")
    owner, _, rest = path.partition("/")
    repo, _, rest = rest.partition("/")
    kind, _, rest = rest.partition("/")
    if kind not in ("", *_FILE_PAGES):
        raise SanError(f"{quoted(text)} is no address of a model on the hub", hint=f"Write {_FORM}.")
    pull = re.match(r"refs/(?:pr|convert)/[^/]+", rest)
    revision = pull[0] if pull else rest.partition("/")[0]
    named = f"{owner}/{repo}" + (f"@{urllib.parse.quote(revision, safe='/')}" if revision else "")
    return _read(named + rest[len(revision) :], text)


def _at_hugging_face(text: str) -> str:
    """Rewrite an address at `$HF_ENDPOINT`, a mirror, to the hub's own."""
    mirror = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    return (
        "https://huggingface.co" + text[len(mirror) :] if mirror and text.startswith(f"{mirror}/") else text
    )


def _sound(part: str, text: str) -> str:
    if ".." in part.split("/") or part.startswith("/") or not part.isprintable():
        raise SanError(f"{quoted(text)} names no file on the hub", hint=f"Write {_FORM}.")
    return part
