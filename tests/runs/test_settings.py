"""Settings kept beside results: what differs is named, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from san_cli.errors import SanError
from san_cli.runs.settings import other_settings, read_settings, refuse_other_settings, write_settings

values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
maps = st.recursive(
    values, lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=4), max_leaves=8
)
some_settings = st.dictionaries(st.text(max_size=4), maps, max_size=5)


@given(some_settings)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_as_the_same(tmp_path: Path, told: dict[str, Any]) -> None:
    write_settings(tmp_path / "run.json", told)
    found = read_settings(tmp_path / "run.json", hint="")
    assert found is not None
    assert other_settings(found, told) == []


def test_what_differs_is_named_with_both_values() -> None:
    found = {"batch": 1, "recipe": {"points": 12, "power": 0.9}, "words": ["a"] * 100, "old": 1}
    wanted = {"batch": 2, "recipe": {"points": 13, "power": 0.9}, "words": ["b"] * 100, "new": None}
    others = other_settings(found, wanted)
    assert others == ["batch (then 1, now 2)", "recipe.points (then 12, now 13)", "words"]
    with pytest.raises(SanError, match="'out' holds a run with other settings: batch") as refused:
        refuse_other_settings(found, wanted, holds="'out' holds a run", hint="Go elsewhere.")
    assert refused.value.hint == "Go elsewhere."


def test_what_a_group_has_no_more_differs() -> None:
    then, now = {"min-score": {"cat": 0.5, "dog": 0.3}}, {"min-score": {"cat": 0.5}}
    assert other_settings(then, now) == ["min-score.dog (then 0.3, now none)"]
    assert other_settings(now, then) == ["min-score.dog (then none, now 0.3)"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_damage_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(SanError, match=r"can't read '.*run\.json'"):
        read_settings(tmp_path / "run.json", hint="")
    assert read_settings(tmp_path / "none.json", hint="") is None
