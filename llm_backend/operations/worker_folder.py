"""What the workers of one server share: a folder that gunicorn's master makes and removes.

The master holds a lock on it as long as it lives, so that the next one can tell what a killed one has left.
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
    """The folder, and the `number` under which this worker has files of its own in it.

    No two workers that live have the same number; who takes a dead one's place takes its number.
    """

    path: Path
    number: int


def places(model_dir: Path) -> Iterator[Path]:
    """Where the folder may be: in memory, where temporary files go, and where all state is."""
    yield Path("/dev/shm")  # noqa: S108 - the folder is private
    with suppress(OSError):
        yield Path(tempfile.gettempdir())
    yield model_dir


def make_folder(parents: Iterable[Path], *, user: int, group: int) -> Path | None:
    """A new private folder of that user in the first of the parents where that can be; None if in none."""
    for parent in parents:
        with suppress(OSError):
            _remove_left_over(parent)
            if shutil.disk_usage(parent).free < _ENOUGH_BYTES:
                continue
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            os.chown(folder, user, group)
            _lock(folder)  # open until this process ends
            return folder
    return None


def _remove_left_over(parent: Path) -> None:
    """Removes the folders of masters that were killed; not one so new that its lock may be yet to come."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < _NEW_SECONDS:
                continue
            descriptor = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _lock(folder: Path) -> int:
    """A descriptor that holds the lock on the folder.

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
