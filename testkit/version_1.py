"""A database as version 1 of the tables had it; see tests/data/version_1/make.sh for what is in it."""

import time
from pathlib import Path

import sqlalchemy as sa

_FILES = Path(__file__).parent.parent / "tests" / "data" / "version_1"
FINISHED, ACTIVE = "7.1795440473", "8.1795440474"  # projects, by how their batch stands


def write_version_1(database_url: str, *, with_version: bool = True) -> None:
    """Writes it into an empty SQLite or PostgreSQL database.

    Its times become the present: a server drops what is old. The first databases had no table `with_version`.
    """
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        for name in (f"tables-{engine.name}.sql", "rows.sql"):
            for statement in (_FILES / name).read_text(encoding="utf-8").split(";\n"):
                if statement:
                    connection.exec_driver_sql(statement)
        if engine.name == "postgresql":
            connection.exec_driver_sql("SELECT setval('job_tasks_id_seq', max(id)) FROM job_tasks")
        for table in (sa.table(name, sa.column("created_at")) for name in ("completions", "jobs")):
            connection.execute(table.update().values(created_at=time.time()))
        if not with_version:
            connection.exec_driver_sql("DROP TABLE schema_version")
    engine.dispose()
