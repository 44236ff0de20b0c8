"""README and docs: links lead somewhere, commands exist, and what they write is not for git."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from san_cli.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "weights/README.md",
        ROOT / "examples/README.md",
    )
    if path.is_file()
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """The ids that a page's headings get where it is shown."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        assert not anchor or anchor in _anchors(there), target


def _commands() -> list[list[str]]:
    """The `san` commands in the shell blocks of all pages, as words; what is piped from or to is left out."""
    found = []
    for page in PAGES:
        for block in re.findall(
            r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            for line in block.replace("\\\n", " ").splitlines():
                lexer = shlex.shlex(line, posix=True, punctuation_chars="|&>;")
                lexer.whitespace_split = True
                parts: list[list[str]] = [[]]
                for word in lexer:
                    if set(word) <= set("|&>;"):
                        parts.append([])
                    else:
                        parts[-1].append(word)
                for words in parts:
                    if words and words[0] in ("san", "torchrun"):
                        found.append(
                            words[1 + max(words.index(n) for n in ("san", "san_cli") if n in words) :]
                        )
    return found


def test_every_command_and_option_exists() -> None:
    commands = _commands()
    assert len(commands) > 20
    for words in commands:
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        assert not hasattr(command, "commands"), words
        known = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        asked = {word.split("=")[0] for word in rest if re.match(r"--?[a-zA-Z0]", word)}
        assert asked <= known, words


def test_what_the_commands_write_is_ignored_by_git() -> None:
    written = {"san-out", "san-train"}
    for words in _commands():
        written |= {words[n + 1] for n, word in enumerate(words) if word in ("-o", "--to", "--plot", "--csv")}
    done = subprocess.run(["git", "check-ignore", *(f"{name}/x" if "." not in name else name for name in written)],
                          cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    if done.returncode == 128:
        pytest.skip("not a checkout")
    assert {line.removesuffix("/x") for line in done.stdout.splitlines()} == written


def test_the_first_commands_are_those_of_a_fresh_clone() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first is not None
    lines = first[1].splitlines()
    assert lines[0].startswith("git clone ") and lines[1] == "pip install -e ."
    assert lines[2] == "san predict examples/scenes --model tiny"
    assert "python -m san_cli" in README


def test_the_readme_stays_readable() -> None:
    assert len(README.split()) < 2100


def test_the_python_of_the_readme_works(monkeypatch: pytest.MonkeyPatch, san_home: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SAN_HOME", str(san_home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    assert names["result"].vocabulary == ("red apple", "wood", "tv")
    assert names["result"].label_map.shape == (480, 480)
