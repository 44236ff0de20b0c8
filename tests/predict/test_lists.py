"""Lists in files (`--list`): lines, tables, JSON lines; and braces in patterns."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import San

from san_cli.errors import ExitCode, SanError
from san_cli.predict.braces import expand_braces, has_braces
from san_cli.predict.inputs import discover
from san_cli.predict.lists import read_list_file


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.jpg", "in/b c.jpg", "in/ü.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()


def names(text: str, content: bytes, **options: bool) -> tuple[list[str], list[str]]:
    said: list[str] = []
    Path(text.rpartition(":")[0] or text).write_bytes(content)
    paths = read_list_file(text, options.get("null", False), said.append)
    listing = discover([paths], say=said.append)
    assert not listing.failures
    return [image.name for image in listing.images], said


ALL = ["in/a.jpg", "in/b c.jpg", "in/ü.jpg"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "\ufeff# a comment\r\nin/a.jpg\r\n\r\n'in/b c.jpg'\r\nin/ü.jpg"),
        ("l", "in/a.jpg\nin/b c.jpg\nin/ü.jpg\n"),
        ("l.csv", "\ufeffid,path\r\n1,in/a.jpg\r\n2,in/b c.jpg\r\n3,in/ü.jpg\r\n"),
        ("l.csv", 'Path;label\n"in/a.jpg";"x;y"\n"in/b c.jpg";\nin/ü.jpg\n'),
        ("l.tsv:where", "n\twhere\n1\tin/a.jpg\n1\tin/b c.jpg\n1\tin/ü.jpg\n"),
        ("l.jsonl", "".join(json.dumps({"image": name, "label": 3}) + "\n" for name in ALL)),
        ("l.jsonl:of", "".join(json.dumps({"path": "x", "of": name}) + "\n\n" for name in ALL)),
        ("l.ndjson", "".join(json.dumps(name) + "\n" for name in ALL)),
        ("l.txt", "".join(json.dumps({"input": name, "path": "z"}) + "\n" for name in ALL)),
    ],
)
def test_forms(name: str, text: str) -> None:
    assert names(name, text.encode())[0] == ALL
    if text.isascii() or name != "l.txt":
        assert names(name, text.lstrip("\ufeff").encode("utf-16"))[0] == ALL


def test_nulls_and_own_folders() -> None:
    assert names("l.txt", "\0".join(ALL).encode(), null=True)[0] == ALL
    found, said = names("in/l.txt", b"a.jpg\nb c.jpg\n")
    assert found == ["a.jpg", "b c.jpg"]
    assert "count from 'in'" in said[0]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.csv", b"in/a.jpg,3\nin/a.jpg,4\n", "no header"),
        ("l.csv", b"id,url\n1,x\n", "none of the columns"),
        ("l.csv:file", b"id,path\n1,x\n", "There are: id, path"),
        ("l.csv:path", b"path,path\nx,y\n", "2 columns 'path'"),
        ("l.csv", b'path,words\nin/a.jpg,"never closed\nin/b.jpg,x\n', "line 3: unexpected end"),
        ("l.csv", b"path\nin/a.jpg\nin/b, c.jpg\n", "line 3: it has more cells"),
        ("l.txt:path", b"in/a.jpg\n", "only .csv"),
        ("l.jsonl", b'{"path": 3}\n', "line 1"),
        ("l.jsonl", b'{"path": "x"}\nnonsense\n', "line 2"),
        ("l.json", b'{"images": [{"file_name": "a.jpg"}],\n "annotations": []}', "jq"),
        ("l.json", b'["in/a.jpg"]', "jq"),
        ("l.csv", b"PK\x03\x04\0\0", "ZIP archive"),
        ("l.txt", b"\x89PNG\r\n\x1a\n", "an image"),
        ("l.csv", b"", "none of the columns"),
        ("-", b"", "INPUT -"),
        ("gone.txt", None, "can't be read"),
        ("in", None, "is a folder"),
    ],
)
def test_what_is_no_list(name: str, content: bytes | None, told: str) -> None:
    if content is not None and name != "-":
        Path(name.partition(":")[0]).write_bytes(content)
    with pytest.raises(SanError) as caught:
        read_list_file(name, False, lambda text: None)
    assert told in f"{caught.value} {caught.value.hint}"
    assert caught.value.code in (ExitCode.NO_INPUT, ExitCode.USAGE)


def test_the_option(predict: San, photos: Path) -> None:
    Path("l.csv").write_text("image,label\nphotos/p00.jpg,1\nphotos/p02.jpg,2\nphotos/gone.jpg,3\n")
    ended = predict("--list", "l.csv", "photos/p04.jpg", "-o", "out", "--save", "labels")
    assert ended.code == 3 and "3 done, 1 failed" in ended.err
    assert Path("out/photos/p02.labels.png").is_file() and Path("out/p04.labels.png").is_file()
    assert "INPUT is missing" in predict("-o", "out").err


_PARTS = st.sampled_from(["a", "{a,b}", "{1..3}", "{08..11}", "{c..a}", "{x,{y,z}}", "{1..9..4}", "-", "{q}"])


@given(st.lists(_PARTS, min_size=1, max_size=4))
def test_braces_as_bash_expands_them(parts: list[str]) -> None:
    text = "".join(parts)
    expanded = expand_braces(text)
    assert len(set(expanded)) == len(expanded) or "{x" not in text
    assert has_braces(text) == (expanded != [text])
    if len(parts) == 4 and shutil.which("bash") and "{" in text:
        told = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {text}"], capture_output=True, check=True, text=True
        )
        assert told.stdout.splitlines() == expanded


@pytest.mark.parametrize(
    "text", ["{", "}{", "a{b", "{}", "{,", "{a..}", "{1..b}", "x" * 5000, "{{{{", "{a," * 5000 + "}" * 5000]
)
def test_what_is_no_brace(text: str) -> None:
    assert not has_braces(text)
    if len(text) < 100:
        assert expand_braces(text) == [text]


def test_too_many_names() -> None:
    with pytest.raises(SanError, match="more than 1,000,000"):
        expand_braces("{1..999999999999999999}{1..9}")
