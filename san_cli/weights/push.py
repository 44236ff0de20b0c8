"""Weights of one's own into a repository on the hub, with a model card: `hf:OWNER/REPO` for everybody."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from san_cli.errors import SanError
from san_cli.models import import_hub_settings
from san_cli.models.presets import Preset
from san_cli.text import printable
from san_cli.weights.adapter import FORMAT as ADAPTER
from san_cli.weights.adapter import is_adapter, read_adapter, read_model
from san_cli.weights.card import model_card
from san_cli.weights.checkpoint import check_finite, read_checkpoint, write_checkpoint
from san_cli.weights.fetch import is_private
from san_cli.weights.file_hash import check_stated_hash
from san_cli.weights.find import check_is_weights, named_file
from san_cli.weights.header import FORMAT
from san_cli.weights.hub import hub_endpoint, is_offline, megabytes
from san_cli.weights.hub_name import HubName
from san_cli.weights.repository import hub_token

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MODEL, CARD = "model.safetensors", "README.md"
_WAYS = "Without a network: `san weights push … --dry-run` shows what would be sent."


@dataclass(frozen=True)
class _Sent:
    """What goes into the repository."""

    path: Path  # a safetensors file of ours
    preset: Preset
    metadata: dict[str, str]
    is_adapter: bool


def push(
    source: str,
    target: HubName,
    *,
    license: str = "unknown",
    private: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None],
) -> str:
    """Upload a model (a file or a training's folder) with its card, into a repository made if need be.

    Another program's file is converted first: nothing but safetensors is sent. A card that is there stays. Returns
    the name of what was uploaded, at its commit; of a dry run, which asks no server, the card. Raises SanError.
    """
    if target.file or target.revision != "main":
        raise SanError(
            f"{target} is more than a repository", hint=f"Weights go to its main branch: hf:{target.repo}"
        )
    path = named_file(source, say=say)
    check_is_weights(path)
    with ExitStack() as kept:
        sent = _ours(path, kept, say)
        run = next((folder for folder in _places(path) if (folder / "settings.json").is_file()), None)
        card = model_card(
            target.repo, sent.preset, sent.metadata, adapter=sent.is_adapter, license=license, run=run
        )
        what = "a side adapter" if sent.is_adapter else "a whole model"
        size = megabytes(sent.path.stat().st_size)
        say(f"{MODEL}: {what} of {printable(sent.preset.name)}, {size}, to {target}")
        if license == "unknown":
            say("the card calls the licence unknown: --license NAME (such as mit) says what others may do")
        return card if dry_run else _upload(sent.path, card, target, private, say)


def _places(path: Path) -> list[Path]:
    """List the folders that are a training's, if the file is its best or last model, or a checkpoint's."""
    folders = path.absolute().parents
    return [*folders[:1], *(folder for folder in folders[2:3] if folders[1].name == "checkpoints")]


def _ours(path: Path, kept: ExitStack, say: Callable[[str], None]) -> _Sent:
    """Return a file of ours as it is, once it is known to be good; another program's, converted. Raises SanError."""
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        # What is wrong with a damaged one is told when it is read.
        with suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    if metadata.get("format") in (FORMAT, ADAPTER):
        check_stated_hash(path)
        read = read_adapter if is_adapter(path) else read_checkpoint
        checkpoint = read(path)
        check_finite(checkpoint.state, path)
        return _Sent(path, checkpoint.preset, metadata, is_adapter(path))
    say(f"'{path}' is converted: nothing but safetensors is uploaded")
    checkpoint = read_model(path, say=say)
    check_finite(checkpoint.state, path)
    converted = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="san-push-"))) / MODEL
    write_checkpoint(checkpoint, converted)
    return _Sent(converted, checkpoint.preset, dict(checkpoint.metadata), False)


def _upload(path: Path, card: str, target: HubName, private: bool, say: Callable[[str], None]) -> str:
    endpoint = hub_endpoint(str(target), _WAYS)
    failure = f"can't upload to {target} at {endpoint}"
    if is_offline():
        raise SanError(f"{failure}: HF_HUB_OFFLINE is set", hint="Unset it.")
    if not is_private(endpoint):
        raise SanError(
            f"{failure}: a token is sent over https alone", hint="Set HF_ENDPOINT to an https:// one."
        )
    token = hub_token()
    if token is None:
        raise SanError(
            f"{failure}: no token is set",
            hint="Make one that may write at https://huggingface.co/settings/tokens, and set HF_TOKEN=…",
        )
    import_hub_settings()
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, token=token)
    try:
        there = _files_there(api, target, private)
        operations = [CommitOperationAdd(MODEL, path)]
        if CARD not in there:
            operations.append(CommitOperationAdd(CARD, card.encode()))
        else:
            say(f"the card that {target} has stays as it is")
        if MODEL in there:
            say(f"{MODEL} takes the place of the one there, which stays in its history")
        done = api.create_commit(target.repo, operations, commit_message="Upload weights with san")
    except SanError:
        raise
    except Exception as error:  # the library's own, its HTTP client's, by version
        raise SanError(f"{failure}: {_cause(error)}", hint=_way_out(error)) from error
    say(f"uploaded: {endpoint}/{target.repo}")
    return f"hf:{target.repo}@{done.oid}"


def _files_there(api: "HfApi", target: HubName, private: bool) -> set[str]:
    """List what the repository holds, which is made if there is none. SanError if it is public against one's wish."""
    from huggingface_hub.utils import RepositoryNotFoundError

    try:
        info = api.model_info(target.repo)
    except RepositoryNotFoundError:
        # Only a wish is told: else the owner's own default holds, which may be private.
        api.create_repo(target.repo, private=True if private else None, exist_ok=True)
        info = api.model_info(target.repo)
    if private and not info.private:
        raise SanError(
            f"{target} is public, and --private was asked for",
            hint="Make it private on its page's settings, or push to another name.",
        )
    return {file.rfilename for file in info.siblings or []}


def _cause(error: Exception) -> str:
    """Find the words for a failure: of an upload's thread the reason is the one before."""
    status = _status(error)
    words = {401: "the token isn't accepted", 403: "the token may not write there", 429: "too many requests"}
    if status in words:
        return f"it answered {status} ({words[status]})"
    cause = error if isinstance(error, ValueError) else error.__cause__ or error
    return printable(" ".join(str(cause).split()))[:300] or type(cause).__name__


def _way_out(error: Exception) -> str:
    if _status(error) in (401, 403):
        return (
            "HF_TOKEN must be one that may write, of somebody who may write there: "
            "https://huggingface.co/settings/tokens"
        )
    return f"Run the same command again: what has arrived isn't sent twice. {_WAYS}"


def _status(error: Exception) -> int:
    for each in (error, error.__cause__):
        status = getattr(getattr(each, "response", None), "status_code", 0)
        if status:
            return int(status)
    return 0
