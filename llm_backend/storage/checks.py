"""Whether state can be written. Only a try shows a full disk or a lost mount."""

import tempfile
from pathlib import Path

from llm_backend.errors import StorageError
from llm_backend.storage.database import Database
from llm_backend.storage.faults import RestartNeededError


class StateCheck:
    """Writes to the database, and a file into MODEL_DIR, the folder for all state. May take long."""

    def __init__(self, database: Database, model_dir: Path) -> None:
        self._database = database
        self._model_dir = model_dir

    def problems(self) -> tuple[str, ...]:
        """What cannot be written, in sentences that say what to do and name no address and no path."""
        found = []
        try:
            self._model_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._model_dir) as file:
                file.write(b"written")
        except OSError:
            found.append(
                "Nothing can be written in the folder MODEL_DIR: check that it is a folder of this server's "
                "user and that the disk is not full"
            )
        try:
            self._database.check_writable()
        except RestartNeededError as error:
            found.append(error.reason)
        except StorageError:
            found.append(
                "The database cannot be written, so that prompts are forgotten, batches wait and completions "
                "may be paid for twice: check the disk of MODEL_DIR, or the server of DATABASE_URL; "
                "the log says more"
            )
        return tuple(found)
