"""Large JSON files, element by element: what the plain reader gives, whatever part of them is in memory."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from san_cli.datasets import json_stream
from san_cli.datasets.json_stream import DamagedJson, json_elements

SCALARS = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
LISTS = st.lists(VALUES, max_size=6)


def read(text: bytes, chunk: int) -> list[tuple[str | None, Any, bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        found = list(json_elements(io.BytesIO(text)))
    return [(one.key, one.value, text[one.start : one.stop]) for one in found]


@given(
    LISTS | st.dictionaries(st.text(max_size=4), LISTS | VALUES, max_size=4),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_elements_are_those_of_the_plain_reader(
    document: Any, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    document = json.loads(text)
    lists = {None: document} if isinstance(document, list) else document
    expected = [(key, one) for key, value in lists.items() if isinstance(value, list) for one in value]
    found = read(text, chunk)
    assert [(key, value) for key, value, _ in found] == expected
    assert [json.loads(piece) for _, _, piece in found] == [value for _, value in expected]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    ["", "7", "[1", "[1,]", "[1 2]", "{", '{"a": [1}', '{"a" [1]}', '{"a": [1],}', "[" * 100_000, '["\xff"]'],
)
def test_other_text_is_refused(text: str, chunk: int) -> None:
    with pytest.raises(DamagedJson):
        read(text.encode("latin-1"), chunk)


def test_an_element_of_any_length_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_LONGEST", 100)
    with pytest.raises(DamagedJson):
        read(b'["' + b"a" * 100_000, 10)
