"""Only one demo at a time for a folder, whatever becomes of its processes."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Lock:
    """A lock on a file, held as long as any process has it open: the servers inherit it.

    Who holds it says in the file what others need to know of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        """Takes the lock; False when another demo holds it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self.descriptor, 0)
        return True

    def say(self, what: Mapping[str, Any]) -> None:
        """Leaves word for others, in place of what was said before."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(what).encode(), 0)

    def said(self) -> dict[str, Any]:
        """What its holder has said; nothing where it has not got that far."""
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}
