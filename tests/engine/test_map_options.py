"""Limits for all classes or one each: what `--min-score` takes, and which classes of a vocabulary it is about."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.engine.map_options import MapOptions, limits, parse_limit
from san_cli.errors import SanError
from san_cli.vocabulary.grammar import vocabulary_of_names

NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="\"',*"), min_size=1, max_size=8
)


@given(st.dictionaries(NAMES, st.floats(0, 100), min_size=1, max_size=6))
def test_limits_by_class_are_read_as_written(given_limits: dict[str, float]) -> None:
    text = ", ".join(f"{name}={value!r}" for name, value in given_limits.items())
    assert parse_limit("--min-score", text) == given_limits


@given(st.text(max_size=30))
def test_any_text_is_a_limit_or_refused(text: str) -> None:
    try:
        found = parse_limit("--min-score", text)
    except SanError as error:
        told = error.message
    else:
        told = ""
        values = [found] if isinstance(found, float) else list(dict(found).values())
        assert values and all(0 <= value < math.inf for value in values)
    assert "\n" not in told


@pytest.mark.parametrize(
    "text", ["", "dog", "1_0", "50%", "dog=", "=1", "dog=x", "dog=0.1,dog=0.2", "dog=1,cat", "1,2"]
)
def test_what_no_limit_is(text: str) -> None:
    with pytest.raises(SanError, match="--min-confidence"):
        parse_limit("--min-confidence", text)


def test_a_name_with_a_comma_stands_in_quotes() -> None:
    assert parse_limit("--min-score", '"salt, pepper=0.4",*=0.2') == {"salt, pepper": 0.4, "*": 0.2}
    assert parse_limit("--min-score", " 0.25 ") == 0.25


def test_limits_go_by_any_word_and_name_no_stranger() -> None:
    vocabulary = vocabulary_of_names([["sofa", "couch"], "dog", "cat"])
    options = MapOptions(background="nothing")
    found = limits(vocabulary, options, {"Couch": 0.4, "*": 0.1, "nothing": 0.3})
    assert np.array_equal(found, np.array([0.4, 0.1, 0.1, 0.3], np.float32))
    assert limits(vocabulary, options, 0.5) == 0.5
    with pytest.raises(SanError, match="for one class"):
        limits(vocabulary, options, {"sofa": 0.4, "Couch": 0.1})
    with pytest.raises(SanError, match="no class 'dgo'") as refused:
        limits(vocabulary, options, {"dgo": 0.4})
    assert "dog" in refused.value.hint


def test_options_keep_limits_of_their_own() -> None:
    given_limits = {"dog": 0.4, "*": 0.1}
    options = MapOptions(min_score=given_limits)
    given_limits["dog"] = -3
    assert dict(options.min_score) == {"dog": 0.4, "*": 0.1}  # type: ignore[arg-type]
    assert hash(options) == hash(MapOptions(min_score=options.min_score))
    assert pickle.loads(pickle.dumps(options)) == options
    for wrong in ({3: 0.4}, {"dog": "0.4"}, {"dog": True}):
        with pytest.raises(TypeError, match="by class name"):
            MapOptions(min_score=wrong)  # type: ignore[arg-type]
    for words in (("dog",), "dog"):
        with pytest.raises(TypeError, match="`only` is True or False"):
            MapOptions(only=words)  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", [-0.1, 1.5, math.nan, math.inf, {"dog": 2.0}])
def test_confidence_is_from_0_to_1(odd: object) -> None:
    with pytest.raises(SanError, match="from 0 to 1"):
        MapOptions(min_confidence=odd)  # type: ignore[arg-type]


def test_only_needs_no_other_option() -> None:
    for other in ({"background": "nothing"}, {"show": ("dog",)}):
        with pytest.raises(SanError, match="`only`"):
            MapOptions(only=True, **other)  # type: ignore[arg-type]
