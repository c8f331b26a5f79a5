"""The version of the tables: a new database gets them, an older one the steps up to today's.

A change of a table raises `VERSION` and adds a step to `STEPS`; databases of both kinds go through it.
"""

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from llm_backend.errors import StorageError

METADATA = sa.MetaData()
VERSION = 1
Step = Callable[[sa.Connection], object]
STEPS: Sequence[Step] = ()  # the first makes version 2 of version 1, and so on

_version = sa.Table("schema_version", METADATA, sa.Column("version", sa.Integer, nullable=False))
# Version 1 was there before versions were written down: a database that has just this is one.
_COLUMNS_OF_VERSION_1 = {
    "projects": "project label_config extra_params prompt label_studio_url label_studio_token",
    "completions": "key reply created_at",
    "jobs": "id project model_version label_config extra_params prompt state reason code created_at "
    "submitted_at delivery_owner delivery_lease_until",
    "open_requests": "id job_id open_until",
    "job_tasks": "id job_id identity task_id data wanted_until state owner lease_until prediction code "
    "reason tokens finished_at handed_over_at",
}


def is_current(connection: sa.Connection) -> bool:
    """Whether nothing has to be done.

    Raises:
        StorageError: a newer program made the database.
    """
    return _stored_version(connection) == VERSION


def prepare(
    connection: sa.Connection, *, steps: Sequence[Step] = STEPS, metadata: sa.MetaData = METADATA
) -> None:
    """Makes the tables, or takes the steps that are missing, in the caller's transaction.

    Nobody else may do the same at the same time.

    Raises:
        StorageError: the tables are of a newer program, or of none that is known.
    """
    newest = len(steps) + 1
    stored = _stored_version(connection, newest)
    if stored is None and _has_no_tables(connection):
        metadata.create_all(connection)
        stored = newest
        connection.execute(_version.insert().values(version=newest))
    elif stored is None:
        _require_version_1(connection)
        stored = 1
        _version.create(connection)
        connection.execute(_version.insert().values(version=1))
    for step in steps[stored - 1 :]:
        step(connection)
    if stored < newest:
        connection.execute(_version.update().values(version=newest))


def _stored_version(connection: sa.Connection, newest: int = VERSION) -> int | None:
    if not sa.inspect(connection).has_table(_version.name):
        return None
    stored = connection.execute(sa.select(_version.c.version)).scalar()
    if stored is not None and stored > newest:
        raise StorageError(
            f"The database was made by a newer version of this program (its tables are version {stored}, "
            f"this program knows {newest}): run that version, or use another MODEL_DIR or DATABASE_URL"
        )
    return stored


def _has_no_tables(connection: sa.Connection) -> bool:
    return not set(_COLUMNS_OF_VERSION_1) & set(sa.inspect(connection).get_table_names())


def _require_version_1(connection: sa.Connection) -> None:
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    for table, columns in _COLUMNS_OF_VERSION_1.items():
        found = {column["name"] for column in inspector.get_columns(table)} if table in there else set()
        if found != set(columns.split()):
            raise StorageError(
                f"The database has other tables than this program can use (see {table}): it is from a trial "
                "version, or another program's. Move it aside, or use another MODEL_DIR or DATABASE_URL"
            )
