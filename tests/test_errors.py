"""The error tree, and reason phrases that fit into a status line."""

import inspect
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend import addresses, errors
from llm_backend.errors import BackendError, CompletionError, RateLimitedError, SettingsError, reason_phrase

EXCEPTIONS = [
    value
    for module in (errors, addresses)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
]
CLASSES = [item for item in EXCEPTIONS if issubclass(item, BackendError)]
PRINTABLE_ASCII_LINE = re.compile(r"[\x20-\x7e]{1,200}")


@pytest.mark.parametrize("error", EXCEPTIONS)
def test_one_root_catches_all(error: type[Exception]) -> None:
    """Every error of the project is a BackendError."""
    assert issubclass(error, BackendError)


@pytest.mark.parametrize("error", [item for item in CLASSES if item is not SettingsError])
def test_an_error_keeps_its_reason(error: type[BackendError]) -> None:
    """The reason is what a person is shown and what the log prints."""
    raised = error("Do this instead")
    assert (raised.reason, str(raised)) == ("Do this instead", "Do this instead")


@pytest.mark.parametrize("error", CLASSES)
def test_status_and_code_can_be_answered(error: type[BackendError]) -> None:
    """Every error has an HTTP status of an error and a code that programs can compare."""
    assert 400 <= error.status <= 599
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


def test_codes_tell_errors_apart() -> None:
    """No two errors share a code."""
    codes = [item.code for item in CLASSES]
    assert sorted(codes) == sorted(set(codes))


def test_every_error_that_is_answered_is_in_the_documentation() -> None:
    """Code and status, as docs/errors.md has them; those that no request meets are left out."""
    text = (Path(__file__).parent.parent / "docs" / "errors.md").read_text()
    documented = {
        code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)
    }
    answered = {item.code: item.status for item in CLASSES if item not in (SettingsError, CompletionError)}
    assert documented == answered | {"unauthorized": 401}


def test_all_problems_of_the_settings_are_told_at_once() -> None:
    """SettingsError carries the problems and shows one line for each."""
    raised = SettingsError(["PORT=x: no", "THREADS=y: no"])
    assert raised.problems == ["PORT=x: no", "THREADS=y: no"]
    assert raised.reason.splitlines()[1:] == ["  - PORT=x: no", "  - THREADS=y: no"]


def test_a_rate_limit_says_how_long_to_wait() -> None:
    """RateLimitedError carries the seconds that the provider asked for, or None."""
    assert RateLimitedError("Wait", 1.5).retry_after == 1.5
    assert RateLimitedError("Wait").retry_after is None


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("The key is wrong", "The key is wrong"),
        ("two\nlines\r\nand\ta tab", "two lines and a tab"),
        ("nul\x00 and \x7f delete", "nul and delete"),
        ("Café — naïve…", "Cafe - naive..."),
        ("情感", "??"),
        ("\ud800", "?"),
        ("a\u2028b\u0085c\xa0d", "a?b?c d"),
        ("", "Error"),
        (" \n ", "Error"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
        ("a" * 196 + " " + "b" * 50, "a" * 196 + "..."),
    ],
)
def test_reason_phrases(text: str, phrase: str) -> None:
    """A text becomes one line of printable ASCII that still can be read."""
    assert reason_phrase(text) == phrase


@settings(deadline=None)
@given(st.text(max_size=600))
@example("\ufdfa" * 200)
@example("\u0301" * 300)
@example("a" * 199 + "\n" + "ß" * 300)
def test_any_text_becomes_a_safe_reason_phrase(text: str) -> None:
    """Whatever the text, gunicorn can put its phrase into a status line."""
    phrase = reason_phrase(text)
    assert PRINTABLE_ASCII_LINE.fullmatch(phrase)
    assert phrase == phrase.strip()


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200))
def test_a_safe_text_is_its_own_phrase(text: str) -> None:
    """A text that needs no change has none."""
    assert reason_phrase(text) == text
