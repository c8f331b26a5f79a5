"""How the last completion ended, for `/health`: the same answer from every worker of one server."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from llm_backend.errors import BackendError, PicturesRefusedError
from llm_backend.operations.worker_folder import SharedFolder
from llm_backend.values import Endpoint

_SAME_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A completion that ended at `at`, in seconds since the epoch; `code` and `reason` say why it failed."""

    at: float
    code: str = ""
    reason: str = ""


class ProviderStatus:
    """Watches one endpoint and model, the server's own. What projects choose for themselves is their affair.

    Each worker notes how its last completion ended in a JSON file in the folder that the workers share. It
    writes when the outcome changes, else once a second at most: a completion that ends like the one before it
    costs no system call.
    """

    def __init__(
        self, endpoint: Endpoint | None = None, model: str = "", shared: SharedFolder | None = None
    ) -> None:
        self._watched = (endpoint, model)
        self._shared = shared
        self._lock = threading.Lock()
        self._last: Ended | None = None

    @contextmanager
    def noting(self, endpoint: Endpoint, model: str) -> Iterator[None]:
        """Notes how the block ends, which asks this endpoint and model for a completion."""
        if (endpoint, model) != self._watched:
            yield
            return
        try:
            yield
        except PicturesRefusedError:  # the caller asks again, without them
            raise
        except BackendError as error:
            self._note(error.code, error.reason)
            raise
        else:
            self._note()

    def last(self) -> Ended | None:
        """How the last completion of any worker ended; None where there was none yet."""
        ends = [self._last] if self._last else []
        for file in self._shared.path.glob("last_completion_*.json") if self._shared else ():
            with suppress(OSError, ValueError):  # the folder is gone
                ends.append(Ended(**json.loads(file.read_text(encoding="utf-8"))))
        return max(ends, key=lambda ended: ended.at, default=None)

    def _note(self, code: str = "", reason: str = "") -> None:
        now, last = time.time(), self._last
        same = last is not None and last.code == code and last.reason == reason
        if last is not None and same and 0 <= now - last.at < _SAME_AGAIN_SECONDS:
            return
        self._last = ended = Ended(now, code, reason)
        if self._shared is not None:
            file = self._shared.path / f"last_completion_{self._shared.number}.json"
            with self._lock, suppress(OSError):  # a folder that is full must not cost a completion
                new = file.with_suffix(".new")
                new.write_text(json.dumps(asdict(ended)), encoding="utf-8")
                new.replace(file)
