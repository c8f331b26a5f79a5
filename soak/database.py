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
    """Every tenth page of the database is overwritten with noise within a batch."""
    stage.ledger.latency = _SLOW
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        stage.completes(server, 1001, _TASKS)
        before = len(stage.ledger.asked)
        waiting = Background(lambda: batch(server, 1, _TASKS))
        wait_until(lambda: len(stage.ledger.asked) - before >= _TASKS // 4, 30, "a quarter of the batch")
        _spoil(stage.database)
        seen = [one for number in range(10) for one in people(server, range(10 * number, 10 * number + 10))]
        told = [one for one in seen if one.is_warning]
        answered = [one for one in seen if one.is_answer]
        stage.expect(len(told) + len(answered) == len(seen), "a person sees neither an answer nor a reason")
        stage.expect(answered[-1:] == seen[-1:], "people get no answers any more")
        for one in told:
            stage.saw(f"`{one.box}`")
        first = waiting.result()
        stage.expect(len(first.entries) == _TASKS or first.status == 503, f"{first.status} {first.reason}")
        stage.saw(f"{len(answered)} of {len(seen)} people meanwhile are answered")
        stage.completes(server, 1, _TASKS)
        stage.completes(server, 1001, _TASKS)
        stage.is_well(server)
        aside = [file.name for file in stage.state.iterdir() if "corrupt" in file.name]
        stage.expect(aside, "the corrupt file has not been moved aside")
        stage.expect("is corrupt" in stage.log, "the log does not say so")
        paid = stage.ledger.times_paid()
    again = sum(paid.values()) - len(paid)
    stage.expect(len(paid) == 2 * _TASKS, f"{len(paid)} of {2 * _TASKS} tasks have been paid for")
    stage.lost = (
        f"what the spoiled pages held, in the file that was moved aside: {again} of {2 * _TASKS} completions "
        "are paid for again"
    )


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
