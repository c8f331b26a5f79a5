"""The version of the tables: a new database gets them, an older one the steps up to today's.

A change of a table raises `VERSION` and adds a step beside the table, decorated with `step_to`.
"""

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from llm_backend.errors import StorageError

METADATA = sa.MetaData()
VERSION = 2
Step = Callable[[sa.Connection], object]
Steps = Mapping[int, list[Step]]
STEPS: dict[int, list[Step]] = {}

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


def step_to(version: int) -> Callable[[Step], Step]:
    """Registers a step that helps to make this version of the one before it."""

    def register(step: Step) -> Step:
        STEPS.setdefault(version, []).append(step)
        return step

    return register


def add_columns(connection: sa.Connection, *columns: sa.Column[object]) -> None:
    """Adds the columns, as their tables define them, to tables that are there."""
    for column in columns:
        definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}")


def is_current(connection: sa.Connection) -> bool:
    """Whether the tables are today's.

    Raises:
        StorageError: a newer program made the database.
    """
    return _stored_version(connection, VERSION) == VERSION


def write_nothing_new(connection: sa.Connection) -> None:
    """Writes the version again, and deletes nothing from each table."""
    connection.execute(_version.update().values(version=_version.c.version))
    for table in METADATA.sorted_tables:
        connection.execute(table.delete().where(sa.false()))


def read_everything(connection: sa.Connection) -> None:
    """Reads every row of every table."""
    for table in METADATA.sorted_tables:
        for _ in connection.execute(table.select().execution_options(yield_per=500)):
            pass


def prepare(connection: sa.Connection, *, version: int = VERSION, steps: Steps = STEPS) -> None:
    """Makes the tables, or takes the steps that are missing, in the caller's transaction.

    Nobody else may do the same at the same time.

    Raises:
        StorageError: the tables are of a newer program, or of none that is known.
    """
    stored = _stored_version(connection, version)
    if stored is None and _has_no_tables(connection):
        METADATA.create_all(connection)
        stored = version
        connection.execute(_version.insert().values(version=version))
    elif stored is None:
        _require_version_1(connection)
        stored = 1
        _version.create(connection)
        connection.execute(_version.insert().values(version=1))
    for missing in range(stored + 1, version + 1):
        for step in steps[missing]:
            step(connection)
    if stored < version:
        connection.execute(_version.update().values(version=version))


def _stored_version(connection: sa.Connection, newest: int) -> int | None:
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
