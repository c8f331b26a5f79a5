"""How the last completion ended, for `/health`: the same answer from every worker of one server."""

import json
import mmap
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llm_backend.errors import BackendError, PicturesRefusedError
from llm_backend.operations.worker_folder import SharedFolder
from llm_backend.values import Endpoint

_TIME = struct.Struct("d")


@dataclass(frozen=True, slots=True)
class Ended:
    """A completion that ended at `at`, in seconds since the epoch; `code` and `reason` say why it failed."""

    at: float
    code: str = ""
    reason: str = ""


class LastCompletion:
    """Watches one endpoint and model, the server's own: what projects choose for themselves is their affair.

    Each worker keeps a file in the folder that they share: when its last completion ended, in 8 bytes, and
    how, as JSON. The file is mapped into memory: while all goes well, noting that costs no system call.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        model: str = "",
        shared: SharedFolder | None = None,
    ) -> None:
        self._watched = (endpoint, model)
        self._folder = shared.path if shared else None
        self._file = shared.path / f"last_completion_{shared.number}" if shared else None
        self._lock = threading.Lock()
        self._here: Ended | None = None
        self._written: tuple[str, str, mmap.mmap] | None = None  # code, reason, and the file that says so

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
        for file in self._folder.glob("last_completion_?*") if self._folder else ():
            with suppress(OSError, ValueError, struct.error):  # not there any more, or not yet
                content = file.read_bytes()
                ends.append(Ended(*_TIME.unpack_from(content), **json.loads(content[_TIME.size :])))
        return max(ends, key=lambda ended: ended.at, default=None)

    def _note(self, code: str = "", reason: str = "") -> None:
        self._here = ended = Ended(time.time(), code, reason)
        if self._file is None:
            return
        written = self._written
        if written is not None and written[:2] == (code, reason):
            written[2][: _TIME.size] = _TIME.pack(ended.at)
        else:
            with self._lock, suppress(OSError):  # a folder that is full must not cost a completion
                self._write(self._file, ended)

    def _write(self, file: Path, ended: Ended) -> None:
        """Puts another file in the place of this worker's."""
        self._written = None
        outcome = {"code": ended.code, "reason": ended.reason}
        new = file.with_name(f"new_{file.name}")
        new.write_bytes(_TIME.pack(ended.at) + json.dumps(outcome).encode())
        with new.open("r+b") as opened:
            mapped = mmap.mmap(opened.fileno(), 0)
        new.replace(file)
        self._written = (ended.code, ended.reason, mapped)
