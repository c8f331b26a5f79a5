"""The key of a project: made from what Label Studio tells, read from what it sends."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_backend.label_studio.project_key import ProjectKey, key_of, key_of_no_project, parse_key

ISO = "2026-11-24T17:40:53.990775Z"  # 1.23.2 writes the API's and the webhook's times so
KEY = ProjectKey(7, 1795542053)


@pytest.mark.parametrize(
    "created",
    [
        ISO,
        "2026-11-24T17:40:53",
        "2026-11-24T19:40:53+02:00",
        datetime(2026, 11, 24, 17, 40, 53, 990775, UTC),
        datetime(2026, 11, 24, 12, 40, 53, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_the_key_follows_from_id_and_time(created: Any) -> None:
    """ISO text and datetime give one key, in whole seconds; without a zone they are UTC."""
    assert key_of({"id": 7, "created_at": created, "title": "t"}) == KEY
    assert str(KEY) == "7.1795542053"


@pytest.mark.parametrize(
    "project",
    [{}, {"id": 7}, {"created_at": ISO}, {"id": None, "created_at": ISO}, {"id": 7, "created_at": None},
     {"id": "x", "created_at": ISO}, {"id": -7, "created_at": ISO}, {"id": 7, "created_at": 5},
     {"id": 7, "created_at": "yesterday"}, {"id": [], "created_at": ISO},
     {"id": "9" * 5000, "created_at": ISO}],
)  # fmt: skip
def test_what_names_no_project_has_no_key(project: dict[str, Any]) -> None:
    """Nothing is guessed, and nothing is raised."""
    assert key_of(project) is None


@pytest.mark.parametrize(
    "text", ["", "7", "7.", ".5", "7.5.1", "-7.5", "7.-5", "07.5", "7.5 ", "²7.5", "7.٣"]
)
def test_what_is_no_key_is_not_parsed(text: str) -> None:
    """Each key has one spelling, so that equal keys are equal texts."""
    assert parse_key(text) is None


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_a_key_survives_its_text(number: int, created: int) -> None:
    """What is written is read."""
    assert parse_key(str(ProjectKey(number, created))) == ProjectKey(number, created)


@given(st.text())
def test_any_text_is_a_key_or_none(text: str) -> None:
    """A key that was read is written as it came."""
    key = parse_key(text)
    assert key is None or str(key) == text


@given(st.dictionaries(st.sampled_from(["id", "created_at"]), st.text() | st.integers() | st.floats()))
def test_any_project_has_a_key_or_none(project: dict[str, Any]) -> None:
    """A webhook that anybody may send raises nothing here."""
    key = key_of(project)
    assert key is None or parse_key(str(key)) == key


def test_requests_without_a_project_have_nothing_to_do_with_each_other() -> None:
    """Each has a key of its own, which no project has."""
    one, other = key_of_no_project(), key_of_no_project()
    assert one != other
    assert parse_key(one) is None
