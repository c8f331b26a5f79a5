"""JSON with places: the same values as the standard library's, and what there is of a text cut off."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.labeling.json_spans import find_object, find_value

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), values, min_size=1, max_size=3), st.sampled_from([None, 2]))
def test_values_are_those_of_json(value: dict[str, Any], indent: int | None) -> None:
    """Any JSON object is read as `json` reads it, and every member's place holds just that member."""
    text = f"See: {json.dumps(value, indent=indent)} Done."
    found = find_object(text)
    assert found is not None
    assert found.value == value
    for key, member in found.members.items():
        assert json.loads(text[member.start : member.end]) == value[key]


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), values, min_size=1, max_size=3), st.integers(0, 60))
def test_a_text_cut_off_never_fails(value: dict[str, Any], kept: int) -> None:
    """Whatever is left of it has keys of the whole."""
    found = find_object(json.dumps(value)[:kept])
    assert found is None or set(found.members) <= set(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "one two', {"a": "one two"}),
        ('{"a": "one\\', {"a": "one"}),
        ('{"a": "one\\u00', {"a": "one"}),
        ('{"a": ["x", "y', {"a": ["x"]}),
        ('{"a": 1, "b', {"a": 1}),
        ('{"a": 1, "b": ', {"a": 1}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('{not json} {"a": 1}', {"a": 1}),
    ],
)
def test_what_is_left_of_a_text(text: str, value: dict[str, Any]) -> None:
    """Strings keep what there is of them; a list loses an item that is not complete."""
    found = find_object(text)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize("text", ["", "no braces", "{}", "{a: 1}", '{"a" 1}', "[1, 2]", "{" * 10_000])
def test_where_there_is_no_object(text: str) -> None:
    """Other texts have none, and none of them fails."""
    assert find_object(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["a"]', ["a"]),
        ('So: {"a": 1}, or {"a": 2}?', {"a": 1}),
        ("{'a': 'b'}", {"a": "b"}),
        ('{} [] and ["b"]', None),
        ('So: {} [] and ["b"]', ["b"]),
        ('{"a": "cut o', None),
        ('["a"]\n```json\n{"b": 1}\n```', {"b": 1}),
        ("```\nno JSON\n```", None),
        ("[1] as in [2]", [1]),
        ("", None),
        ("[" * 10_000, None),
    ],
)
def test_json_that_nobody_asked_for(text: str, value: Any) -> None:
    """The first object or list that is whole and holds something counts; a fence comes first."""
    assert find_value(text) == value


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from([*"{}[]\"':,1a ", "```json"])).map("".join))
def test_no_text_breaks_the_search(text: str) -> None:
    """Whatever a model replies, there is an object, a list, or nothing."""
    assert isinstance(find_value(text), dict | list | None)
