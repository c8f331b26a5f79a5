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
from llm_backend.storage import Database, Projects, StoredCompletions, WorkList
from llm_backend.storage import schema as tables
from llm_backend.storage.completions import KeyedReply
from llm_backend.storage.work import NewTask, new_job
from llm_backend.values import Reply
from testkit.faulty_databases import full, locked

FILE = "state.sqlite3"
MANY = 300
LARGE = "x" * 3000
ONLY_PROJECT = "the first"


def fill(folder: Path) -> None:
    """A database with a project, a batch, and completions that take many pages."""
    database = Database(None, folder)
    projects, work, stored = Projects(database), WorkList(database), StoredCompletions(database)
    projects.remember_prompt(ONLY_PROJECT, "its prompt")
    job = new_job(
        "1.5",
        model_version="v",
        label_config="<View/>",
        extra_params={},
        prompt="p",
        shape="",
        submitted_at=0,
    )
    work.submit(job, [NewTask(f"{n}:t", n, {"text": "t"}) for n in range(5)], 0)
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


def eventually_usable(database: Database) -> None:
    """The first use or two may fail; then everything works again."""
    for _ in range(3):
        try:
            read_everything(database)
            Projects(database).remember_prompt("p", "new")
        except StorageError:
            continue
        assert Projects(database).get("p").prompt == "new"
        return
    raise AssertionError("the database does not recover")


@SPOIL
def test_a_database_that_is_corrupt_at_the_start_is_replaced(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is moved aside as it is, a new one is made, and the log names both."""
    fill(tmp_path)
    spoil(tmp_path / FILE)
    spoilt = (tmp_path / FILE).read_bytes()
    database = Database(None, tmp_path)
    eventually_usable(database)
    [aside] = moved_aside(tmp_path)
    assert aside.read_bytes() == spoilt
    assert [record.levelname for record in caplog.records if str(aside) in record.message] == ["ERROR"]
    assert str(tmp_path / FILE) in caplog.text
    database.close()


@SPOIL
def test_a_database_that_becomes_corrupt_is_replaced(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """In the middle of the run: one use says so, the next ones work."""
    fill(tmp_path)
    database = Database(None, tmp_path)
    assert Projects(database).get(ONLY_PROJECT).prompt == "its prompt"
    spoil(tmp_path / FILE)
    other = Database(None, tmp_path)  # with nothing of it in memory
    eventually_usable(other)
    eventually_usable(database)
    assert len(moved_aside(tmp_path)) == 1
    other.close()
    database.close()
    assert Projects(Database(None, tmp_path)).get("p").prompt == "new"


def test_what_can_be_read_of_a_corrupt_database_is_kept(tmp_path: Path) -> None:
    """Prompts, the batch, and the paid completions on both sides of the broken pages."""
    fill(tmp_path)
    middle_overwritten(tmp_path / FILE)
    database = Database(None, tmp_path)
    eventually_usable(database)
    assert Projects(database).get(ONLY_PROJECT).prompt == "its prompt"
    [job] = WorkList(database).recent_jobs()
    assert WorkList(database).progress(job.id).left == 5
    kept = StoredCompletions(database).get([f"{n:064d}" for n in range(MANY)])
    assert MANY * 0.9 < len(kept) < MANY
    assert set(kept.values()) == {Reply(LARGE)}
    database.close()


def test_an_earlier_corrupt_database_is_not_overwritten(tmp_path: Path) -> None:
    """Two within a second have two names."""
    for _ in range(3):
        (tmp_path / FILE).write_bytes(b"no database " * 500)
        database = Database(None, tmp_path)
        eventually_usable(database)
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


def test_a_deleted_database_is_made_anew(tmp_path: Path) -> None:
    """Somebody tidies up under a running server: it does not go on writing into a file without a name."""
    database = Database(None, tmp_path)
    Projects(database).remember_prompt("p", "old")
    for path in tmp_path.glob(f"{FILE}*"):
        path.unlink()
    Projects(database).remember_prompt("p", "new")
    database.close()
    assert Projects(Database(None, tmp_path)).get("p").prompt == "new"


def test_an_emptied_database_gets_its_tables_again(tmp_path: Path) -> None:
    """One use says that they are missing, the next ones work."""
    database = Database(None, tmp_path)
    Projects(database).remember_prompt("p", "old")
    with database.writing() as connection:
        connection.execute(sa.text("DROP TABLE projects"))
        connection.execute(sa.text("DROP TABLE completions"))
        for other in ("jobs", "open_requests", "job_tasks", "schema_version"):
            connection.execute(sa.text(f"DROP TABLE {other}"))
    eventually_usable(database)
    database.close()


def notice_together(folder: Path, ready: Any, number: int) -> None:
    """What one of several workers does when the database turns out to be corrupt."""
    database = Database(None, folder)
    ready.wait(30)
    for _ in range(3):
        try:
            Projects(database).remember_prompt(f"{number}", "prompt")
            break
        except StorageError:
            continue
    database.close()


def test_several_processes_that_notice_at_once_replace_it_once(tmp_path: Path) -> None:
    """The new one of the first is not moved aside by the second, and nobody's write is lost."""
    (tmp_path / FILE).write_bytes(b"no database " * 500)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(4)
    workers = [context.Process(target=notice_together, args=(tmp_path, ready, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(moved_aside(tmp_path)) == 1
    projects = Projects(Database(None, tmp_path))
    assert [projects.get(f"{n}").prompt for n in range(4)] == ["prompt"] * 4


def test_a_write_into_a_database_that_is_being_replaced_is_no_success(tmp_path: Path) -> None:
    """What went into the file that was moved aside meanwhile has to be written again."""
    database = Database(None, tmp_path)
    projects = Projects(database)

    def write() -> None:
        with database.writing() as connection:
            connection.execute(tables.METADATA.tables["projects"].insert().values(project="p", prompt="lost"))
            (tmp_path / FILE).rename(tmp_path / "aside")

    with pytest.raises(StorageError):
        write()
    assert projects.get("p").prompt is None
    projects.remember_prompt("p", "again")
    assert projects.get("p").prompt == "again"
    database.close()


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
    job = new_job(
        "1.5",
        model_version="v",
        label_config="<View/>",
        extra_params={},
        prompt="p",
        shape="",
        submitted_at=0,
    )
    assert WorkList(database).submit(job, [], 0)
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


def test_a_database_without_a_version_is_version_1(tmp_path: Path) -> None:
    """Those were made before versions were written down; what is in them stays."""
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("DROP TABLE schema_version")
        connection.commit()
    database = Database(None, tmp_path)
    assert Projects(database).get(ONLY_PROJECT).prompt == "its prompt"
    with database.reading() as connection:
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == tables.VERSION
    database.close()


def test_other_tables_of_the_same_names_are_refused(tmp_path: Path) -> None:
    """A sentence, not an error of SQL at the first click."""
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("CREATE TABLE projects (id, name)")
        connection.commit()
    with pytest.raises(StorageError, match=r"other tables .*projects.*Move it aside"):
        Projects(Database(None, tmp_path)).get("p")
    assert moved_aside(tmp_path) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def today(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of each kind with today's tables."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    database = Database(url, tmp_path)
    Projects(database).remember_prompt("p", "prompt")
    yield database
    database.close()


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
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["notes.txt"]
