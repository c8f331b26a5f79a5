"""Scenarios of the database: its disk is full; it is locked, read-only or corrupt."""

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from soak.stage import Background, Stage, batch, people, wait_until, work_left
from testkit.servers import Server

_TASKS = 400
_SETTINGS: dict[str, Any] = {"MAX_CONCURRENCY": "16", "LEASE_SECONDS": "3"}
_SLOW = 0.2  # seconds for a completion: a batch then takes some seconds
_PERSON_SECONDS = 12.0
_PAGE_BYTES = 4096
_CORRUPT = "The database is corrupt: start the server again"


def disk_full(stage: Stage) -> None:
    """The disk of MODEL_DIR, a tmpfs of 32 MB that only the server sees, is full for 10 s within a batch."""
    stage.ledger.latency = _SLOW
    stage.state.mkdir()
    with stage.server(_own_disk(), **_SETTINGS) as server:
        stage.is_well(server)
        waiting = Background(lambda: batch(server, 1, _TASKS))
        wait_until(lambda: len(stage.ledger.times_paid()) >= _TASKS // 4, 30, "a quarter of the batch")
        with _filled(Path(f"/proc/{server.pid}/root{stage.state}")):
            time.sleep(1)
            _people_get_answer_or_reason(stage, server, "full")
            _another_batch_is_refused(stage, server)
            time.sleep(5)
        _batch_goes_on(stage, server, waiting)


def locked(stage: Stage) -> None:
    """Another program holds the write lock of the database for 40 s, within a batch."""
    stage.ledger.latency = _SLOW
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        waiting = Background(lambda: batch(server, 1, _TASKS))
        wait_until(lambda: len(stage.ledger.times_paid()) >= _TASKS // 4, 30, "a quarter of the batch")
        with _write_lock(stage.database):
            began = time.monotonic()
            _people_get_answer_or_reason(stage, server, "locked")
            _another_batch_is_refused(stage, server)
            time.sleep(max(0.0, began + 40 - time.monotonic()))
        _batch_goes_on(stage, server, waiting)


def read_only(stage: Stage) -> None:
    """`chmod` takes the right to write to MODEL_DIR before the start, and gives it back seconds later."""
    stage.ledger.latency = _SLOW
    prefix = _obeying_permissions()
    with stage.server(**_SETTINGS) as server:
        stage.completes(server, 1, _TASKS // 2)
    with _no_writing(stage.state), stage.server(prefix, **_SETTINGS) as server:
        _people_get_answer_or_reason(stage, server, "read-only")
        _another_batch_is_refused(stage, server)
        time.sleep(2)
        _allow_writing(stage.state)
        stage.completes(server, 1, _TASKS)
        stage.is_well(server)
        stage.receipts(_TASKS)


def corrupt(stage: Stage) -> None:
    """Noise in every tenth page of the database within a batch; then the server is started again."""
    stage.ledger.latency = _SLOW
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        stage.completes(server, 1001, _TASKS)
        before = len(stage.ledger.asked)
        waiting = Background(lambda: batch(server, 1, _TASKS))
        wait_until(lambda: len(stage.ledger.asked) - before >= _TASKS // 4, 30, "a quarter of the batch")
        _spoil(stage.database)
        seen = [one for number in range(10) for one in people(server, range(10 * number, 10 * number + 10))]
        first = waiting.result()
        second = batch(server, 1001, _TASKS)
        stage.expect(len(first.entries) == _TASKS or first.status == 503, f"{first.status} {first.reason}")
        stage.saw(f"the batch under way: `{first.status} {first.reason}`")
        stage.expect(_CORRUPT in second.reason, f"a new batch: {second.status} {second.reason}")
        for one in seen:
            told = one.is_warning and _CORRUPT in one.box
            stage.expect(told or one.is_answer, f"a person sees {one.status} {one.reason}: {one.box!r}")
            stage.saw(f"`{one.box}`" if told else "people get their answers all the same")
        wait_until(lambda: _CORRUPT in str(server.get("/health")["problems"]), 10, "the problem in /health")
        stage.expect(not _moved_aside(stage), "the file was moved aside while the server was running")
    with stage.server(**_SETTINGS) as server:
        stage.completes(server, 1, _TASKS)
        stage.completes(server, 1001, _TASKS)
        stage.is_well(server)
        stage.expect(len(_moved_aside(stage)) == 1, "the corrupt file was not moved aside at the next start")
        stage.expect("is corrupt: moved to" in stage.log, "the log does not say so")
        wait_until(lambda: server.get("/health")["problems"] == [], 10, "the end of the problem in /health")
        paid = stage.ledger.times_paid()
    again = sum(paid.values()) - len(paid)
    stage.expect(len(paid) == 2 * _TASKS, f"{len(paid)} of {2 * _TASKS} tasks have been paid for")
    stage.lost = (
        f"what the corrupt file held; it is beside the new one: {again} of {2 * _TASKS} completions are paid "
        "for again"
    )


def _moved_aside(stage: Stage) -> list[Path]:
    """The databases that a start has moved aside, each with the files that SQLite had beside it."""
    return [file for file in stage.state.glob("*.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]


def _people_get_answer_or_reason(stage: Stage, server: Server, sentence: str) -> None:
    """Checks that people soon see an answer, or a reason with this sentence."""
    for seen in people(server, range(5)):
        told = seen.is_warning and sentence in seen.box
        stage.expect(told or seen.is_answer, f"a person sees {seen.status} {seen.reason}: {seen.box!r}")
        stage.expect(seen.seconds < _PERSON_SECONDS, f"a person waits {seen.seconds:.1f} s")
        stage.saw(f"`{seen.box}`" if seen.is_warning else "people get their answers all the same")


def _another_batch_is_refused(stage: Stage, server: Server) -> None:
    """Checks that the server refuses a new batch, and says why: it could not store its tasks."""
    seen = batch(server, 5001, 10)
    stage.expect(seen.status == 503, f"a new batch: {seen.status} {seen.reason} {seen.predicted}")
    stage.saw(f"a new batch: `{seen.status} {seen.reason}`")


def _batch_goes_on(stage: Stage, server: Server, waiting: Background) -> None:
    """Checks, after the fault, that the batch under way ends whole and that nothing is paid for twice."""
    seen = waiting.result()
    stage.expect(len(seen.entries) == _TASKS, f"the batch got {seen.status} {seen.reason}")
    stage.saw(f"the batch under way gets {seen.predicted} of {_TASKS} predictions after {seen.seconds:.0f} s")
    wait_until(lambda: work_left(server) == 0, 60, "the end of the batch")
    stage.completes(server, 1, _TASKS)
    stage.is_well(server)
    stage.receipts(_TASKS)


def _own_disk() -> list[str]:
    """A command prefix: mounts a small disk at MODEL_DIR that only the server sees."""
    namespaces = ["--mount"] if os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
    mount = 'mount -t tmpfs -o size=32m tmpfs "$MODEL_DIR" && exec "$@"'
    return ["unshare", *namespaces, "sh", "-c", mount, "sh"]


@contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Fills the disk of the folder to the last byte, until the block ends."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _write_lock(database: Path) -> Iterator[None]:
    """Holds the database's write lock until the block ends."""
    with closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def _obeying_permissions() -> list[str]:
    """A command prefix: makes the permissions of files hold for root, too."""
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []


@contextmanager
def _no_writing(folder: Path) -> Iterator[None]:
    """Takes the right to write to the folder and its files, until the block ends."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        yield
    finally:
        _allow_writing(folder)


def _allow_writing(folder: Path) -> None:
    folder.chmod(0o700)
    for file in folder.iterdir():
        file.chmod(0o600)


def _spoil(database: Path) -> None:
    """Moves the write-ahead log into the file, then overwrites every tenth page but the first with noise."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    noise = random.Random(1)
    with open(database, "r+b") as file:
        for page in range(2, database.stat().st_size // _PAGE_BYTES, 10):
            file.seek(page * _PAGE_BYTES)
            file.write(noise.randbytes(_PAGE_BYTES))
