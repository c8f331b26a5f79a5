"""What must survive a restart: per project its labeling config, extra params and last prompt.

The only module that talks to the database: SQLite in `MODEL_DIR` by default, PostgreSQL when several
machines share it. Every read goes to the database, so that all workers see a change at once.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from llm_backend.errors import StorageError
from llm_backend.values import Json

_BUSY_TIMEOUT_SECONDS = 30

_metadata = sa.MetaData()
_projects = sa.Table(
    "projects",
    _metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("label_config", sa.Text),
    sa.Column("extra_params", sa.Text, nullable=False, server_default="{}"),
    sa.Column("prompt", sa.Text),
)


@dataclass(frozen=True, slots=True)
class Project:
    """What is known of a project. `label_config` is None until `/setup` has brought one."""

    label_config: str | None = None
    extra_params: Json | None = None
    prompt: str | None = None


class Storage:
    """The database. Opened at the first use, so that it is never shared across a fork."""

    def __init__(self, database_url: str | None, model_dir: Path) -> None:
        self._url = sa.make_url(database_url or f"sqlite:///{model_dir / 'state.sqlite3'}")
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None

    def project(self, project: str) -> Project:
        """What is known of the project; an unknown one has nothing set."""
        with self._reading() as connection:
            row = connection.execute(_projects.select().where(_projects.c.project == project)).first()
        return _as_project(row) if row else Project()

    def remember_setup(self, project: str, label_config: str, extra_params: Json) -> None:
        """Keeps what `/setup` brought. A default prompt that has changed becomes the project's prompt."""
        known = self.project(project)
        if (known.label_config, known.extra_params) == (label_config, extra_params):
            return
        with self._writing() as connection:
            row = connection.execute(_projects.select().where(_projects.c.project == project)).first()
            before = (_as_project(row).extra_params or {}) if row else {}
            values = {"label_config": label_config, "extra_params": json.dumps(extra_params)}
            default_prompt = extra_params.get("default_prompt")
            if default_prompt and default_prompt != before.get("default_prompt"):
                values["prompt"] = default_prompt
            self._upsert(connection, project, values)

    def remember_prompt(self, project: str, prompt: str) -> None:
        """Makes this the project's last used prompt."""
        if self.project(project).prompt == prompt:
            return
        with self._writing() as connection:
            self._upsert(connection, project, {"prompt": prompt})

    def close(self) -> None:
        """Closes all connections; the next use opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _upsert(self, connection: sa.Connection, project: str, values: dict[str, Any]) -> None:
        changed = connection.execute(
            _projects.update().where(_projects.c.project == project).values(**values)
        )
        if not changed.rowcount:
            connection.execute(_projects.insert().values(project=project, **values))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _own_errors(), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that takes the write lock at its start: a read that became a write would fail."""
        with _own_errors():
            engine = self._opened().execution_options(writes=True)
            with engine.begin() as connection:
                yield connection

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                engine = _open_sqlite(self._url) if self._is_sqlite else sa.create_engine(self._url)
                with engine.execution_options(writes=True).begin() as connection:
                    _metadata.create_all(connection)
                self._engine = engine
            return self._engine

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if url.database and url.database != ":memory:":
        file = Path(url.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # extra params may hold keys
    engine = sa.create_engine(url, pool_size=16, max_overflow=-1)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `_begin` says so
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_SECONDS * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise StorageError(f"The database cannot be used: {cause}") from error


def _as_project(row: Any) -> Project:
    return Project(
        label_config=row.label_config, extra_params=json.loads(row.extra_params), prompt=row.prompt
    )
