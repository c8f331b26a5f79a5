"""What an error means for a batch: the one table, against the tree of errors."""

import pytest

from llm_backend import errors
from llm_backend.batches.outcomes import MEANINGS, ForJob, meaning_of
from llm_backend.errors import BackendError, ProviderDownError, RateLimitedError


def all_kinds(kind: type[BackendError] = BackendError) -> list[type[BackendError]]:
    """The error and all that derive from it in this project's tree."""
    below = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(one for child in below for one in all_kinds(child))]


def some(kind: type[BackendError]) -> BackendError:
    """An error of this kind."""
    error = kind.__new__(kind)
    BackendError.__init__(error, "why")
    return error


@pytest.mark.parametrize("kind", all_kinds())
def test_every_error_has_a_meaning(kind: type[BackendError]) -> None:
    """A task that neither fails nor ends its job waits for something that passes; nothing waits for ever."""
    meaning = meaning_of(some(kind))
    waits = not meaning.task_fails and meaning.job is not ForJob.ENDS
    assert waits == (kind.may_pass and not issubclass(kind, ProviderDownError))
    assert not (meaning.task_fails and meaning.job is not ForJob.GOES_ON)


def test_only_what_an_endpoint_says_of_its_load_slows_it_down() -> None:
    """A refused key says nothing about how much the endpoint takes."""
    assert {kind.code for kind, meaning in MEANINGS.items() if meaning.slows_down} == {
        "rate_limited",
        "connection_failed",
    }


def test_a_kind_that_is_not_in_the_table_is_like_the_one_it_derives_from() -> None:
    """A new error of a provider needs no line of its own."""

    class SlowerError(RateLimitedError):
        pass

    assert meaning_of(SlowerError("why")) == MEANINGS[RateLimitedError]
