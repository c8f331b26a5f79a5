"""How the last completion ended, for `/health`: the same answer from every worker of one server."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from llm_backend.errors import BackendError, PicturesRefusedError
from llm_backend.sharing import SharedFolder
from llm_backend.values import Endpoint


@dataclass(frozen=True, slots=True)
class Ended:
    """A completion that ended at `at`, in seconds since the epoch; `code` and `reason` say why it failed."""

    at: float
    code: str = ""
    reason: str = ""


class LastCompletion:
    """Watches one endpoint and model, the server's own: what projects choose for themselves is their affair.

    Each worker keeps a file in the folder that they share. What is in it says how its last completion ended,
    and the file's time says when: while all goes well, noting that costs one system call.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        model: str = "",
        shared: SharedFolder | None = None,
    ) -> None:
        self._watched = (endpoint, model)
        self._shared = shared
        self._lock = threading.Lock()
        self._here: Ended | None = None
        self._written: tuple[str, str] | None = None  # what is in the file

    @contextmanager
    def noting(self, endpoint: Endpoint, model: str) -> Iterator[None]:
        """Remembers how the block, which asks this endpoint for a completion, has ended."""
        if (endpoint, model) != self._watched:
            yield
            return
        try:
            yield
        except PicturesRefusedError:  # it is asked again, without them
            raise
        except BackendError as error:
            self._note(error.code, error.reason)
            raise
        else:
            self._note()

    def get(self) -> Ended | None:
        """How the last completion of any worker ended; None where there was none yet."""
        ends = [self._here] if self._here else []
        for file in self._shared.path.glob("last_completion_*.json") if self._shared else ():
            with suppress(OSError, ValueError):  # not there any more
                at = file.stat().st_mtime_ns / 1e9
                ends.append(Ended(at, **json.loads(file.read_text(encoding="utf-8"))))
        return max(ends, key=lambda ended: ended.at, default=None)

    def _note(self, code: str = "", reason: str = "") -> None:
        with self._lock:
            at = time.time_ns()
            self._here = Ended(at / 1e9, code, reason)
            if self._shared is None:
                return
            file = self._shared.path / f"last_completion_{self._shared.number}.json"
            with suppress(OSError):  # a folder that is full must not cost a completion
                if self._written == (code, reason):
                    os.utime(file, ns=(at, at))
                    return
                self._written = None
                new = file.with_suffix(".new")
                new.write_text(json.dumps({"code": code, "reason": reason}), encoding="utf-8")
                os.utime(new, ns=(at, at))
                new.replace(file)
                self._written = (code, reason)
