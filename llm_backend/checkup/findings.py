"""What a check has found, and the time it may take to find it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

from llm_backend.errors import BackendError

Found = TypeVar("Found")
Level = Literal["ok", "warning", "FAILED"]
_LEVELS: tuple[Level, ...] = ("ok", "warning", "FAILED")
_MAX_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is; where it is not `ok`, also what to do. `below` are findings about its parts."""

    level: Level
    text: str
    below: tuple["Finding", ...] = ()

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The finding as lines for a terminal, those below it indented."""
        yield f"{self.level:<9}{'  ' * depth}{one_line(self.text)}"
        for finding in self.below:
            yield from finding.lines(depth + 1)


def ok(text: str) -> Finding:
    """A finding that needs nothing to be done."""
    return Finding("ok", text)


def warning(text: str) -> Finding:
    """A finding that may be as it should be."""
    return Finding("warning", text)


def failed(text: str) -> Finding:
    """A finding with which something cannot work."""
    return Finding("FAILED", text)


def summary(text: str, below: tuple[Finding, ...]) -> Finding:
    """A finding as bad as the worst of its parts."""
    worst = max((_LEVELS.index(finding.level) for finding in below), default=0)
    return Finding(_LEVELS[worst], text, below)


def one_line(text: str) -> str:
    """The text without line breaks and escape sequences, which titles and foreign servers may send."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    return line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH - 3]}..."


def within(seconds: float, what: Callable[[], Found]) -> Found:
    """What the call gives, waited for no longer than that: a socket's timeout is one for each read only.

    Raises:
        TimeoutError: it goes on, in a thread that does not keep the process from ending.
    """
    answer: Future[Found] = Future()

    def run() -> None:
        try:
            answer.set_result(what())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="check", daemon=True).start()
    return answer.result(max(0.0, seconds))


def found(subject: str, seconds: float, what: Callable[[], Finding]) -> Finding:
    """What the check finds in that time; whatever it raises is a finding, too.

    What a library says in an error may hold a key or a token, so that only its kind is told.
    """
    try:
        return within(seconds, what)
    except TimeoutError:
        return failed(f"{subject}: not done after {seconds:.0f} s, given up: is something there hanging?")
    except BackendError as error:
        return failed(f"{subject}: {error.reason}")
    except Exception as error:
        return failed(f"{subject}: unexpected error ({type(error).__name__})")
