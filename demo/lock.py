"""A lock that lets one demo at a time use a folder."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Lock:
    """A lock on a file. The demo holds it until each process that has the file open ends; servers inherit it.

    The demo that holds the lock writes into the file what another start must know.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        """Takes the lock. Returns False if another demo holds it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self.descriptor, 0)
        return True

    def say(self, what: Mapping[str, Any]) -> None:
        """Replaces the content of the file."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(what).encode(), 0)

    def said(self) -> dict[str, Any]:
        """The content of the file; empty if the holder has not written it yet."""
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}
