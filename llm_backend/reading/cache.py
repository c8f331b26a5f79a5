"""A bounded cache on disk. It keeps for minutes what was fetched and prepared."""

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

_log = logging.getLogger(__name__)
_SECONDS_KEPT = 600.0
_SECONDS_BETWEEN_SWEEPS = 10.0


class DiskCache:
    """Texts by key, for all workers. A fault of the disk only makes it slower.

    Sizes are in bytes. Between two sweeps it can grow beyond `max_bytes` by what is written in ten seconds.
    """

    def __init__(self, folder: Path, *, max_bytes: int, seconds_kept: float = _SECONDS_KEPT) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._seconds_kept = seconds_kept
        self._lock = threading.Lock()
        # A lock is there for as long as a thread has it or waits for it.
        self._being_made: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._swept = float("-inf")

    def get(self, what: object, make: Callable[[], str]) -> str:
        """The text kept for `what` (any JSON value), else what `make` gives.

        A thread that asks for the same while it is being made waits for it. An error of `make` is not kept.
        """
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        with self._lock:
            only_one = self._being_made.setdefault(key, threading.Lock())
        with only_one:
            text = self._read(key)
            if text is None:
                text = make()
                self._write(key, text)
            return text

    def _read(self, key: str) -> str | None:
        path = self._path(key)
        try:
            if abs(time.time() - path.stat().st_mtime) > self._seconds_kept:  # the clock may have been set
                return None
            return path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _write(self, key: str, text: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".new")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(text.encode("utf-8"))
                os.replace(temporary, self._path(key))
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            _log.warning("The cache of pictures cannot be written to: %s", error.strerror)
        self._sweep()

    def _sweep(self) -> None:
        """Removes what is too old, and the oldest of what is too much."""
        now = time.monotonic()
        with self._lock:
            if now < self._swept + _SECONDS_BETWEEN_SWEEPS:
                return
            self._swept = now
        kept = 0
        for modified, size, path in sorted(self._entries(), reverse=True):
            kept += size
            if kept > self._max_bytes or modified < time.time() - self._seconds_kept:
                with suppress(OSError):
                    os.unlink(path)

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_mtime, status.st_size, entry.path

    def _path(self, key: str) -> Path:
        return self._folder / key
