"""Per project: its labeling config, its extra params and its last prompt.

Every read goes to the database, so that all workers see a change at once.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA
from llm_backend.values import Json

_projects = sa.Table(
    "projects",
    METADATA,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("label_config", sa.Text),
    sa.Column("extra_params", sa.Text, nullable=False, server_default="{}"),
    sa.Column("prompt", sa.Text),
    sa.Column("label_studio_url", sa.Text),
    sa.Column("label_studio_token", sa.Text),
)
_BY_NAME = _projects.c.project == sa.bindparam("named")
_ALL_OF_IT, _PROMPT_OF_IT = _projects.select().where(_BY_NAME), sa.select(_projects.c.prompt).where(_BY_NAME)


@dataclass(frozen=True, slots=True)
class Project:
    """What is known of a project. `label_config` is None until `/setup` has brought one."""

    label_config: str | None = None
    extra_params: Json | None = None
    prompt: str | None = None
    label_studio_url: str | None = None
    label_studio_token: str | None = field(default=None, repr=False)


class Projects:
    """The projects, each under its whole project string."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, project: str) -> Project:
        """What is known of the project; an unknown one has nothing set."""
        with self._database.reading() as connection:
            return _find(connection, project)

    def names(self, limit: int = 100) -> list[str]:
        """Project strings of those that `/setup` has made known."""
        known = sa.select(_projects.c.project).where(_projects.c.label_config.is_not(None)).limit(limit)
        with self._database.reading() as connection:
            return list(connection.execute(known).scalars())

    def remember_setup(self, project: str, label_config: str, extra_params: Json) -> None:
        """Keeps what `/setup` brought. A default prompt that has changed becomes the project's prompt."""
        known = self.get(project)
        if (known.label_config, known.extra_params) == (label_config, extra_params):
            return
        with self._database.writing(quick=True) as connection:
            before = _find(connection, project).extra_params or {}
            values = {"label_config": label_config, "extra_params": json.dumps(extra_params)}
            default_prompt = extra_params.get("default_prompt")
            if default_prompt and default_prompt != before.get("default_prompt"):
                values["prompt"] = default_prompt
            self._set(connection, project, values)

    def remember_prompt(self, project: str, prompt: str) -> None:
        """Makes this the project's last used prompt."""
        with self._database.reading() as connection:
            known = connection.execute(_PROMPT_OF_IT, {"named": project}).scalar()
        if known == prompt:
            return
        with self._database.writing(quick=True) as connection:
            self._set(connection, project, {"prompt": prompt})

    def remember_label_studio(self, project: str, url: str, token: str) -> None:
        """Keeps where the project's Label Studio is and its token, for the files that its tasks name."""
        known = self.get(project)
        if (known.label_studio_url, known.label_studio_token) == (url, token):
            return
        with self._database.writing(quick=True) as connection:
            self._set(connection, project, {"label_studio_url": url, "label_studio_token": token})

    def _set(self, connection: sa.Connection, project: str, values: dict[str, Any]) -> None:
        self._database.upsert(connection, _projects, [{"project": project, **values}], changed=values)


def _find(connection: sa.Connection, project: str) -> Project:
    row = connection.execute(_ALL_OF_IT, {"named": project}).first()
    if row is None:
        return Project()
    return Project(
        label_config=row.label_config,
        extra_params=json.loads(row.extra_params),
        prompt=row.prompt,
        label_studio_url=row.label_studio_url,
        label_studio_token=row.label_studio_token,
    )
