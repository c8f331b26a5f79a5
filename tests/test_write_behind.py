"""The writer thread: what came together is stored together, and one refused record loses no other."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_backend.storage import (
    Database,
    Jobs,
    Ledger,
    Outcome,
    Payment,
    Proposal,
    StoredCompletions,
    WorkItem,
)
from llm_backend.storage.completions import KeyedReply
from llm_backend.storage.write_behind import Record, WriteBehind
from llm_backend.values import Reply
from testkit.work import submit, tasks

PAYMENT = Payment("p", 1, "batch", "openai", "m", "m-1")
PROPOSAL = Proposal("p", 1, "batch", "m-1", "prompt", {"response": "ok"})
UNWRITABLE = "\ud800"  # half of a surrogate pair has no UTF-8


class Written:
    """A database, the writer thread on it, and how many transactions it made."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(None, folder)
        self.completions = StoredCompletions(self.database)
        self.ledger = Ledger(self.database)
        self.jobs = Jobs(self.database)
        self.transactions = 0
        self._writer = WriteBehind(
            self.database, self.completions, self.ledger, self.jobs.tasks, owner="me", on_written=self._count
        )

    def put(self, *records: Record) -> None:
        """Queues the records and waits until they are stored."""
        for record in records:
            self._writer.put(record)
        assert self._writer.close(time.monotonic() + 10)

    def item(self) -> WorkItem:
        """A task of a batch, taken."""
        [item] = self.jobs.tasks.lease(submit(self.jobs, tasks(1)), "me", 1, 60)
        return item

    def _count(self) -> None:
        self.transactions += 1


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    """One with nothing stored."""
    made = Written(tmp_path)
    yield made
    made.database.close()


def reply(number: int, text: str = "ok") -> KeyedReply:
    """A reply with a key of its own."""
    return KeyedReply(f"{number:064d}", Reply(text))


def stored_replies(written: Written, *numbers: int) -> list[int]:
    """Which of these replies are stored."""
    there = written.completions.get([reply(number).key for number in numbers])
    return [number for number in numbers if reply(number).key in there]


def test_all_parts_of_a_record_are_stored(written: Written) -> None:
    """In one transaction."""
    item = written.item()
    outcome = Outcome(item, prediction={"result": []})
    written.put(Record((reply(1), reply(2)), PAYMENT, PROPOSAL, outcome))
    assert stored_replies(written, 1, 2) == [1, 2]
    assert written.ledger.payments() == [PAYMENT]
    assert written.ledger.proposals("p") == [PROPOSAL]
    assert written.jobs.tasks.progress(item.job_id).done == 1
    assert written.transactions == 1


@pytest.mark.parametrize(
    "refused",
    [
        Record((reply(2),), PAYMENT, Proposal("p", 1, "batch", "m-1", UNWRITABLE, {})),
        Record((reply(2), KeyedReply(UNWRITABLE, Reply("ok"))), PAYMENT),
        Record((reply(2),), PAYMENT, Proposal("p", 2**80, "batch", "m-1", "p", {})),
    ],
)
def test_one_refused_record_loses_no_other(written: Written, refused: Record) -> None:
    """Nor the parts of it that can be stored."""
    written.put(Record((reply(1),)), refused, Record((reply(3),)))
    assert stored_replies(written, 1, 2, 3) == [1, 2, 3]
    assert written.ledger.payments() == [PAYMENT]
    assert written.ledger.proposals("p") == []


def test_a_task_fails_where_its_outcome_is_refused(written: Written) -> None:
    """It is not asked for again and again."""
    item = written.item()
    outcome = Outcome(item, prediction={"result": []}, reason=UNWRITABLE)
    written.put(Record((reply(1),), PAYMENT, outcome=outcome))
    assert written.jobs.tasks.progress(item.job_id).failed == 1
    assert written.ledger.payments() == [PAYMENT]
