"""The folder that the workers of one server share. gunicorn's master makes and removes it.

The master locks the folder for as long as it lives. So the next master knows which folders killed ones left.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = ".llm-backend-workers-"
_ENOUGH_BYTES = 16_000_000  # a mapped file that finds no room kills its process
_NEW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """The folder, and the `number` by which this worker names its files in it.

    No two living workers have the same number. A worker that replaces a dead one gets its number.
    """

    path: Path
    number: int


def parents(model_dir: Path) -> Iterator[Path]:
    """Where the folder may be, the best first: in memory, among temporary files, beside the state."""
    yield Path("/dev/shm")  # noqa: S108 - the folder is private
    with suppress(OSError):
        yield Path(tempfile.gettempdir())
    yield model_dir


def make_folder(candidates: Iterable[Path], *, user: int, group: int) -> Path | None:
    """Makes a private folder of that user in the first candidate that takes one; None if none does."""
    for parent in candidates:
        with suppress(OSError):
            _remove_left_over(parent)
            if shutil.disk_usage(parent).free < _ENOUGH_BYTES:
                continue
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            os.chown(folder, user, group)
            _lock(folder)  # until this process ends
            return folder
    return None


def _remove_left_over(parent: Path) -> None:
    """Removes the folders of killed masters, but none of the last minute: its lock may be yet to come."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < _NEW_SECONDS:
                continue
            descriptor = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _lock(folder: Path) -> int:
    """Locks the folder. Gives the descriptor that holds the lock.

    Raises:
        OSError: another process holds it, or the folder is another user's.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
