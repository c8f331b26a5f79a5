"""Requests while the database cannot be written to, and when it can again."""

import threading
import time
from pathlib import Path
from typing import Any

from testkit.faulty_databases import full, locked
from testkit.stub_llm import Answer, Call, StubLLM, completion
from testkit.waiting import eventually
from tests.conftest import MakeApp
from tests.test_runner import predicted, tasks, the_job

FILE = "state.sqlite3"


def large(call: Call) -> Answer:
    """A reply that finds no place in the pages that the file has."""
    return Answer(body=completion("o" * 60_000).body, delay=0.05)


def test_a_batch_asks_for_no_more_while_nothing_can_be_written(make_backend: MakeApp, stub: StubLLM) -> None:
    """When the disk has room again what has come is written, the rest is asked for, and nothing twice."""
    stub.answer = large
    backend = make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="4", PREDICT_TIMEOUT="60")
    answers: list[Any] = []
    batch = threading.Thread(target=lambda: answers.append(backend.predict(tasks(120))))
    batch.start()
    eventually(lambda: len(stub.calls) > 10)
    with full(backend.services.database):
        eventually(lambda: backend.services.writer.is_stuck)
        time.sleep(0.3)  # what was under way comes to its end
        asked = len(stub.calls)
        time.sleep(1.5)
        assert len(stub.calls) == asked < 60
    batch.join()
    assert predicted(answers[0]) == [True] * 120
    assert len(stub.calls) == 120


def test_a_full_disk_that_stays_is_said(make_backend: MakeApp, stub: StubLLM) -> None:
    """A batch is not begun, with a sentence in the status line that says what to do."""
    backend = make_backend(DEFAULT_PROMPT="p")
    backend.predict(tasks(1))
    with full(backend.services.database):
        answer = backend.predict([{"id": n, "data": {"text": "x" * 9000}} for n in range(50)])
        assert answer.status_code == 503
        assert "The disk of the database is full: make room" in answer.status
    assert stub.calls[1:] == []


def test_a_person_is_answered_while_the_database_is_locked(
    make_backend: MakeApp, stub: StubLLM, tmp_path: Path
) -> None:
    """The answer is written when the lock is gone, so that the batch does not ask for it again."""
    backend = make_backend(REMEMBER_PROMPT="submitted", DEFAULT_PROMPT="p")
    assert backend.setup().status_code == 200
    with locked(tmp_path / FILE):
        assert predicted(backend.predict(prompt="p")) == [True]
        again = backend.setup(extra_params={"model": "another"})
        assert again.status_code == 503
        assert "The database is locked by another program: end what has it open" in again.status
    eventually(lambda: not backend.services.writer.is_stuck)
    assert backend.setup(extra_params={"model": "another"}).status_code == 200


def test_a_database_that_becomes_corrupt_is_said_until_the_next_start(
    make_backend: MakeApp, stub: StubLLM, tmp_path: Path
) -> None:
    """To a person, to Label Studio's batch and in `/health`; after a restart the batch is done."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.05)
    backend = make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="4")
    first = threading.Thread(target=lambda: backend.predict(tasks(100)))
    first.start()
    eventually(lambda: len(stub.calls) > 30)
    for path in (tmp_path / FILE, tmp_path / f"{FILE}-wal"):
        with path.open("r+b") as file:
            file.write(b"\x99" * path.stat().st_size)
    first.join()
    sentence = "The database is corrupt: start the server again"
    for refused in (backend.predict(tasks(100)), backend.predict(prompt="p")):
        assert refused.status_code == 503
        assert sentence in refused.status
    eventually(lambda: sentence in str(backend.client.get("/health").json["problems"]))
    assert not list(tmp_path.glob("*.corrupt-*"))

    assert backend.services.close()
    restarted = make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="4")
    assert predicted(restarted.predict(tasks(100))) == [True] * 100
    assert the_job(restarted)["left"] == 0
    assert list(tmp_path.glob("*.corrupt-*"))
    eventually(lambda: restarted.client.get("/health").json["problems"] == [])


def test_a_reply_is_kept_where_the_outcome_of_its_task_is_refused(
    make_backend: MakeApp, stub: StubLLM
) -> None:
    """The task fails instead of being asked for again and again."""
    backend = make_backend(DEFAULT_PROMPT="p")
    with backend.services.database.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuses BEFORE UPDATE ON job_tasks WHEN NEW.prediction IS NOT NULL "
            "AND NEW.prediction <> '' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    answer = backend.predict(tasks(2))
    assert answer.json["error"]["reason"] == "The prediction cannot be written: the server's log says more"
    with backend.services.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM completions").scalar() == 2
    assert len(stub.calls) == 2
