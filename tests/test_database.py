"""The database when something is wrong with it: corrupt, full, locked, read-only, of another version."""

import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from llm_backend.errors import StorageError
from llm_backend.storage import (
    Database,
    Jobs,
    JobState,
    Ledger,
    Payment,
    Projects,
    StateCheck,
    StoredCompletions,
)
from llm_backend.storage import schema as tables
from llm_backend.storage.completions import KeyedReply
from llm_backend.values import Reply
from testkit.faulty_databases import full, locked
from testkit.version_1 import ACTIVE, FINISHED, write_version_1
from testkit.work import submit, tasks

FILE = "state.sqlite3"
MANY = 300
LARGE = "x" * 3000
ONLY_PROJECT = "the first"


def fill(folder: Path) -> None:
    """A database with a project, a batch, and completions that take many pages."""
    database = Database(None, folder)
    projects, stored = Projects(database), StoredCompletions(database)
    projects.remember_prompt(ONLY_PROJECT, "its prompt")
    submit(Jobs(database), tasks(5))
    with database.writing() as connection:
        stored.put(connection, [KeyedReply(f"{n:064d}", Reply(LARGE)) for n in range(MANY)])
    database.close()


def garbage_header(file: Path) -> None:
    """The beginning is something else."""
    with file.open("r+b") as opened:
        opened.write(b"no database at all")


def cut_off(file: Path) -> None:
    """The second half is missing."""
    os.truncate(file, file.stat().st_size // 2)


def middle_overwritten(file: Path) -> None:
    """Some pages in the middle hold something else."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(b"\x99" * 4096 * 3)


SPOIL = pytest.mark.parametrize("spoil", [garbage_header, cut_off, middle_overwritten])


def read_everything(database: Database) -> None:
    """Meets what is broken, wherever it is."""
    with database.reading() as connection:
        for table in tables.METADATA.sorted_tables:
            connection.execute(table.select()).all()


def moved_aside(folder: Path) -> list[Path]:
    """The databases that have been moved aside, without what SQLite had beside them."""
    return sorted(path for path in folder.glob("*.corrupt-*") if not path.name.endswith(("-wal", "-shm")))


def use(database: Database) -> None:
    """Reads everything, and writes."""
    read_everything(database)
    Projects(database).remember_prompt("p", "new")
    assert Projects(database).get("p").prompt == "new"


CORRUPT = "The database is corrupt: start the server again; it then moves the file aside and makes a new one"


@pytest.mark.parametrize("spoil", [garbage_header, cut_off])
def test_a_start_moves_a_corrupt_database_aside(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """As it is; a new one is made, and the log names both."""
    fill(tmp_path)
    spoil(tmp_path / FILE)
    spoilt = (tmp_path / FILE).read_bytes()
    database = Database(None, tmp_path)
    use(database)
    [aside] = moved_aside(tmp_path)
    assert aside.read_bytes() == spoilt
    assert [record.levelname for record in caplog.records if str(aside) in record.message] == ["ERROR"]
    assert str(tmp_path / FILE) in caplog.text
    database.close()


@SPOIL
def test_a_database_that_becomes_corrupt_stays_until_the_next_start(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever meets it is told what to do, the log once; nothing is moved while the server runs."""
    fill(tmp_path)
    database = Database(None, tmp_path)
    assert Projects(database).get(ONLY_PROJECT).prompt == "its prompt"
    spoil(tmp_path / FILE)
    database.close()  # nothing of it is in memory any more
    for _ in range(2):
        with pytest.raises(StorageError, match=CORRUPT):
            read_everything(database)
    assert StateCheck(database, tmp_path).problems() == (CORRUPT,)
    assert moved_aside(tmp_path) == []
    database.close()
    assert caplog.text.count("is corrupt") <= 1
    after_restart = Database(None, tmp_path)
    use(after_restart)
    assert len(moved_aside(tmp_path)) == 1
    assert StateCheck(after_restart, tmp_path).problems() == ()
    after_restart.close()


def test_a_corrupt_database_that_was_repaired_stays(tmp_path: Path) -> None:
    """An operator puts a backup in its place before the next start: what is whole is never moved."""
    fill(tmp_path)
    backup = (tmp_path / FILE).read_bytes()
    database = Database(None, tmp_path)
    use(database)
    middle_overwritten(tmp_path / FILE)
    database.close()
    with pytest.raises(StorageError, match=CORRUPT):
        read_everything(database)
    database.close()
    (tmp_path / FILE).write_bytes(backup)
    after_restart = Database(None, tmp_path)
    assert Projects(after_restart).get(ONLY_PROJECT).prompt == "its prompt"
    assert StateCheck(after_restart, tmp_path).problems() == ()
    assert moved_aside(tmp_path) == []
    after_restart.close()


def test_a_text_that_is_no_utf_8_is_corrupt(tmp_path: Path) -> None:
    """SQLite itself finds nothing wrong with it; the next start moves the file aside all the same."""
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE projects SET prompt = CAST(x'ff00ff' AS TEXT)")
        connection.commit()
    database = Database(None, tmp_path)
    with pytest.raises(StorageError, match=CORRUPT):
        Projects(database).get(ONLY_PROJECT)
    database.close()
    use(Database(None, tmp_path))
    assert len(moved_aside(tmp_path)) == 1


def test_nothing_is_moved_while_another_process_has_it_open(tmp_path: Path) -> None:
    """A worker that starts anew beside others is told what to do, until all have been started again."""
    fill(tmp_path)
    running = Database(None, tmp_path)
    use(running)
    garbage_header(tmp_path / FILE)
    new_worker = Database(None, tmp_path)
    with pytest.raises(StorageError, match=CORRUPT):
        Projects(new_worker).get("p")
    assert moved_aside(tmp_path) == []
    running.close()
    use(new_worker)
    assert len(moved_aside(tmp_path)) == 1
    new_worker.close()


def test_who_only_looks_moves_nothing(tmp_path: Path) -> None:
    """`--check` tells of a corrupt database and leaves it where it is."""
    (tmp_path / FILE).write_bytes(b"no database " * 500)
    database = Database(None, tmp_path, moves_corrupt_aside=False)
    with pytest.raises(StorageError, match=CORRUPT):
        database.check_writable()
    assert moved_aside(tmp_path) == []


def test_an_earlier_corrupt_database_is_not_overwritten(tmp_path: Path) -> None:
    """Two within a second have two names."""
    for _ in range(3):
        (tmp_path / FILE).write_bytes(b"no database " * 500)
        database = Database(None, tmp_path)
        use(database)
        database.close()
        (tmp_path / FILE).unlink()
    assert len(moved_aside(tmp_path)) == 3


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    """Nothing is moved aside."""
    (tmp_path / FILE).touch()
    database = Database(None, tmp_path)
    Projects(database).remember_prompt("p", "prompt")
    database.close()
    assert moved_aside(tmp_path) == []


def test_a_deleted_database_is_told_of(tmp_path: Path) -> None:
    """Somebody tidies up under a running server: `/health` says so, and the next start makes a new one."""
    database = Database(None, tmp_path)
    Projects(database).remember_prompt("p", "old")
    for path in tmp_path.glob(f"{FILE}*"):
        path.unlink()
    [problem] = StateCheck(database, tmp_path).problems()
    assert problem == "The database has been deleted: start the server again; it then makes a new one"
    database.close()
    use(Database(None, tmp_path))


def test_an_emptied_database_is_told_of(tmp_path: Path) -> None:
    """Its tables are gone; the next start makes them."""
    database = Database(None, tmp_path)
    Projects(database).remember_prompt("p", "old")
    with database.writing() as connection:
        for table in tables.METADATA.tables:
            connection.execute(sa.text(f"DROP TABLE {table}"))
    with pytest.raises(StorageError, match="has been deleted: start the server again"):
        Projects(database).get("p")
    database.close()
    use(database)
    database.close()


def start_together(folder: Path, ready: Any, number: int) -> None:
    """What one of several workers does when it starts."""
    database = Database(None, folder)
    ready.wait(30)
    Projects(database).remember_prompt(f"{number}", "prompt")
    ready.wait(30)
    database.close()


def test_several_workers_that_start_at_once_move_it_aside_once(tmp_path: Path) -> None:
    """The second does not move the new one of the first, and nobody's write is lost."""
    (tmp_path / FILE).write_bytes(b"no database " * 500)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(4)
    workers = [context.Process(target=start_together, args=(tmp_path, ready, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(moved_aside(tmp_path)) == 1
    projects = Projects(Database(None, tmp_path))
    assert [projects.get(f"{n}").prompt for n in range(4)] == ["prompt"] * 4


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """Reading goes on, and writing when there is room again; nothing is moved aside."""
    database = Database(None, tmp_path)
    projects = Projects(database)
    projects.remember_prompt("p", "small")
    with full(database):
        with pytest.raises(StorageError, match="full: make room"):
            projects.remember_prompt("p", "large" * 100_000)
        assert projects.get("p").prompt == "small"
    projects.remember_prompt("p", "large" * 100_000)
    assert moved_aside(tmp_path) == []
    database.close()


def test_a_locked_database_says_so_soon(tmp_path: Path) -> None:
    """Label Studio waits 3 seconds for `/setup`; reading is not disturbed."""
    database = Database(None, tmp_path)
    projects = Projects(database)
    projects.remember_prompt("p", "before")
    with locked(tmp_path / FILE):
        started = time.monotonic()
        with pytest.raises(StorageError, match="locked by another program"):
            projects.remember_prompt("p", "meanwhile")
        assert time.monotonic() - started < 2.9
        assert projects.get("p").prompt == "before"
        again = Database(None, tmp_path)
        assert Projects(again).get("p").prompt == "before"
        again.close()
    projects.remember_prompt("p", "after")
    assert projects.get("p").prompt == "after"
    assert moved_aside(tmp_path) == []
    database.close()


def test_a_batch_waits_longer_for_a_lock(tmp_path: Path) -> None:
    """What is not quick goes on when the lock is gone after some seconds."""
    database = Database(None, tmp_path)
    read_everything(database)
    taken = threading.Event()

    def hold() -> None:
        with locked(tmp_path / FILE):
            taken.set()
            time.sleep(2.5)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)
    assert submit(Jobs(database), [])
    holder.join()
    database.close()


def test_a_read_only_database_can_be_read(tmp_path: Path) -> None:
    """Writing says what to do, and for whom."""
    writer = Database(None, tmp_path)
    Projects(writer).remember_prompt("p", "prompt")
    reader = Database(f"sqlite:///file:{tmp_path}/{FILE}?mode=ro&uri=true", tmp_path)
    assert Projects(reader).get("p").prompt == "prompt"
    with pytest.raises(StorageError, match=f"read-only: make MODEL_DIR .* writable for uid {os.geteuid()}"):
        Projects(reader).remember_prompt("p", "other")
    assert moved_aside(tmp_path) == []
    reader.close()
    writer.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """The sentence says what to do; the file stays where it is."""
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
        connection.commit()
    database = Database(None, tmp_path)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"newer version of this program .*99.*run that version"):
            Projects(database).get("p")
    assert moved_aside(tmp_path) == []


def test_other_tables_of_the_same_names_are_refused(tmp_path: Path) -> None:
    """A sentence, not an error of SQL at the first click."""
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("CREATE TABLE projects (id, name)")
        connection.commit()
    with pytest.raises(StorageError, match=r"other tables .*projects.*Move it aside"):
        Projects(Database(None, tmp_path)).get("p")
    assert moved_aside(tmp_path) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / FILE}"
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def today(url: str, tmp_path: Path) -> Iterator[Database]:
    """A database of each kind with today's tables."""
    database = Database(url, tmp_path)
    Projects(database).remember_prompt("p", "prompt")
    yield database
    database.close()


@pytest.mark.parametrize("has_version", [True, False])
def test_a_database_of_version_1_is_brought_up_to_date(url: str, tmp_path: Path, has_version: bool) -> None:
    """What is in it stays, also where it was made before versions were written down; then it is as new."""
    write_version_1(url, with_version=has_version)
    database = Database(url, tmp_path)
    projects, jobs, stored = Projects(database), Jobs(database), StoredCompletions(database)

    assert stored.has_keys_of_version_1()
    with database.reading() as connection:
        keys = connection.execute(sa.text("SELECT key FROM completions")).scalars().all()
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == tables.VERSION
        today = {
            table.name: {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            for table in tables.METADATA.sorted_tables
        }
    assert today == {table.name: set(table.columns.keys()) for table in tables.METADATA.sorted_tables}
    assert len(stored.get(keys)) == len(keys) == 9

    finished, active = projects.get(FINISHED), projects.get(ACTIVE)
    assert (finished.extra_params or {})["api_key"] == "sk-of-the-project"
    assert finished.prompt == "Is this\n'sarcastic'? 情感"
    assert "<Rating" in (active.label_config or "")
    [job] = jobs.active()
    assert (job.project, job.prompt, job.shape) == (ACTIVE, "Rate it.", None)
    assert (jobs.tasks.progress(job.id).done, jobs.tasks.progress(job.id).left) == (3, 3)
    assert {one.state for one in jobs.recent()} == {JobState.ACTIVE, JobState.DONE}
    assert [item.task_id for item in jobs.tasks.lease(job.id, "me", 9, 60)] == [4, 5, 6]
    assert submit(jobs, tasks(1))
    with database.writing() as connection:
        Ledger(database).put(connection, [Payment("p", 1, "batch", "openai", "m", "v")], [])
        stored.put(connection, [KeyedReply("new", Reply("ok"))])
    assert stored.get(["new"]) == {"new": Reply("ok")}
    database.close()


def test_a_new_database_has_no_keys_of_version_1(today: Database) -> None:
    """So that nobody looks for them."""
    stored = StoredCompletions(today)
    with today.writing() as connection:
        stored.put(connection, [KeyedReply("new", Reply("ok"))])
    assert not stored.has_keys_of_version_1()


def two_steps(second: str) -> dict[int, list[tables.Step]]:
    """A step that adds the column `two`, and one of the version after it."""
    first = "ALTER TABLE projects ADD COLUMN two INTEGER"
    return {
        tables.VERSION + 1: [lambda connection: connection.execute(sa.text(first))],
        tables.VERSION + 2: [lambda connection: connection.execute(sa.text(second))],
    }


def test_steps_are_taken_in_order_and_once(today: Database) -> None:
    """From the version that is there up to the newest one, and what is there stays."""
    newest = tables.VERSION + 2
    for _ in range(2):
        with today.writing() as connection:
            tables.prepare(connection, version=newest, steps=two_steps("UPDATE projects SET two = 2"))
    with today.reading() as connection:
        assert connection.execute(sa.text("SELECT prompt, two FROM projects")).all() == [("prompt", 2)]
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == newest


def test_a_step_that_fails_leaves_the_database_as_it_was(today: Database) -> None:
    """The earlier steps are taken back with it."""
    steps = two_steps("UPDATE projects SET three = 2")
    with pytest.raises(StorageError), today.writing() as connection:
        tables.prepare(connection, version=tables.VERSION + 2, steps=steps)
    with today.reading() as connection:
        columns = {column["name"] for column in sa.inspect(connection).get_columns("projects")}
        assert "two" not in columns
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == tables.VERSION
    assert Projects(today).get("p").prompt == "prompt"


def test_a_file_that_never_was_a_database_is_left_alone(tmp_path: Path) -> None:
    """A typo in DATABASE_URL renames nobody's file."""
    file = tmp_path / "notes.txt"
    file.write_text("notes " * 1000)
    with pytest.raises(StorageError, match="let DATABASE_URL name another file"):
        Database(f"sqlite:///{file}", tmp_path).check_writable()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
