"""The files that the demo keeps from start to start: its user and its projects."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from dotenv import dotenv_values

from demo.errors import DemoError
from demo.label_studio import Credentials, new_credentials

EMAIL = "demo@example.com"


@dataclass
class MadeProject:
    """A project that the demo has made: its id, the id of its model, and whether all its steps were done."""

    project: int
    model: int | None = None
    finished: bool = False


class State:
    """The files `credentials.env` and `projects.json` in a folder.

    A shell can source the first. Only its owner can read it. With `shared` everybody can, because the folder
    is a volume that containers of other users read.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self._credentials = folder / "credentials.env"
        self._projects = folder / "projects.json"
        self._mode = 0o644 if shared else 0o600

    @property
    def has_credentials(self) -> bool:
        """Whether a user is known."""
        return self._credentials.exists()

    def credentials(self) -> Credentials:
        """The user. The first call invents it.

        Raises:
            DemoError: the file is damaged.
        """
        if not self.has_credentials:
            lines = [f"{name}={value}\n" for name, value in new_credentials(EMAIL).variables().items()]
            self._write(self._credentials, "".join(lines))
        try:
            said = dotenv_values(self._credentials, interpolate=False)
        except ValueError:  # not UTF-8
            said = {}
        names = ("LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_USER_TOKEN")
        email, password, token = (said.get(name) for name in names)
        if not (email and password and token):
            raise damaged(self._credentials)
        return Credentials(email, password, token)

    def projects(self) -> dict[str, MadeProject]:
        """The projects that the demo has made, by the names of their examples.

        Raises:
            DemoError: the file is damaged.
        """
        try:
            said = json.loads(self._projects.read_text(encoding="utf-8"))
            return {example: MadeProject(**made) for example, made in said.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            raise damaged(self._projects) from None

    def keep_projects(self, projects: dict[str, MadeProject]) -> None:
        """Writes the projects to the file."""
        made = {example: asdict(project) for example, project in projects.items()}
        self._write(self._projects, json.dumps(made, indent=2))

    def _write(self, path: Path, text: str) -> None:
        """Writes the whole text or nothing."""
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode), "w") as file:
            os.fchmod(file.fileno(), self._mode)  # whatever the umask is
            file.write(text)
        unfinished.replace(path)


def damaged(path: Path) -> DemoError:
    """The error for a file that the demo cannot read."""
    return DemoError(
        f"{path} is damaged. To begin anew, which deletes what was labeled in the demo: make demo-clean"
    )
