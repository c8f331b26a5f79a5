"""The states of jobs and tasks: the table of changes against what the statements do."""

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_backend.storage import Database, JobChange, Jobs, JobState, OpenRequest, Outcome, TaskState, states
from llm_backend.storage import jobs as jobs_module
from llm_backend.storage import tasks as tasks_module
from llm_backend.storage.states import Change, TaskChange
from llm_backend.storage.tasks import DoneTask, WorkItem
from testkit.work import PREDICTION, batch, finish, request, tasks

TABLES = {"jobs": (JobChange, JobState), "job_tasks": (TaskChange, TaskState)}
WATCH = """
    CREATE TRIGGER watch_PLACE AFTER UPDATE OF state ON PLACE
    BEGIN INSERT INTO seen VALUES ('PLACE', OLD.state, NEW.state); END
"""
Seen = set[tuple[str, str, str]]


def in_the_table() -> Seen:
    """Every change that the tables of changes allow: the database's table, the state before and after."""
    return {
        (table, before, change.after)
        for table, (changes, _) in TABLES.items()
        for change in vars(changes).values()
        if isinstance(change, Change)
        for before in change.before
    }


@contextmanager
def watched(folder: Path) -> Iterator[tuple["Steps", Seen]]:
    """What may be done to a new work list; afterwards, the changes of states that the database has seen."""
    database = Database(None, folder)
    seen: Seen = set()
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE seen (place TEXT, before TEXT, after TEXT)")
        for table in TABLES:
            connection.exec_driver_sql(WATCH.replace("PLACE", table))
    yield Steps(database), seen
    with database.reading() as connection:
        seen.update(map(tuple, connection.exec_driver_sql("SELECT * FROM seen").all()))
    database.close()


class Steps:
    """All that changes a state, each step on whatever an earlier one has left."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs = Jobs(database)
        self._job = ""
        self._requests: list[OpenRequest] = []
        self._taken: list[WorkItem] = []
        self._sent: list[DoneTask] = []

    def submit(self) -> None:
        """A batch of three tasks, for a request that stays open."""
        self._requests.append(request(self._jobs, 100))
        self._job = self._jobs.submit(batch("v1"), tasks(3), self._requests[-1])

    def submit_another(self) -> None:
        """A batch with another version; the present one is stopped."""
        self._jobs.submit(batch("v2"), tasks(1), request(self._jobs))

    def lease(self) -> None:
        """Takes all tasks."""
        self._taken += self._jobs.tasks.lease(self._job, "me", 9, 60)

    def predict(self) -> None:
        """One of the taken tasks is done."""
        finish(self._database, self._jobs, "me", [Outcome(item, PREDICTION) for item in self._taken[:1]])
        del self._taken[:1]

    def fail(self) -> None:
        """One of the taken tasks has failed."""
        finish(self._database, self._jobs, "me", [Outcome(item, code="x") for item in self._taken[:1]])
        del self._taken[:1]

    def give_back(self) -> None:
        """The taken tasks are given back, those too whose outcome is known by now."""
        finish(self._database, self._jobs, "me", [Outcome(item) for item in self._taken])

    def answer(self) -> None:
        """All requests are answered."""
        for asked in self._requests:
            self._jobs.hand_over(self._job, [task.identity for task in tasks(3)], asked)
        self._requests.clear()

    def send(self) -> None:
        """One prediction is on its way to Label Studio, or again."""
        self._sent = self._jobs.take_for_delivery(self._job, 1) or self._sent

    def deliver(self) -> None:
        """It has arrived."""
        self._jobs.tasks.delivered([task.row for task in self._sent])

    def refuse(self) -> None:
        """Label Studio does not take it."""
        self._jobs.tasks.undeliverable([task.row for task in self._sent], "delivery", "gone")

    def finish_job(self) -> None:
        """The job ends if nothing is left."""
        self._jobs.end_finished(self._job)

    def stop_job(self) -> None:
        """A person stops the job."""
        self._jobs.end(self._job, JobChange.STOPPED)

    def fail_job(self) -> None:
        """Nothing can succeed in the job."""
        self._jobs.end(self._job, JobChange.FAILED)


ALL_STEPS = [name for name in vars(Steps) if not name.startswith("_")]
EVERYTHING = """
    submit answer lease give_back lease predict send send deliver predict send refuse fail
    submit lease predict predict predict answer finish_job
    submit stop_job submit fail_job submit submit_another
"""


def test_the_statements_make_every_change_of_the_table(tmp_path: Path) -> None:
    """And no other, on a way that comes by all of them."""
    with watched(tmp_path) as (steps, seen):
        for step in EVERYTHING.split():
            getattr(steps, step)()
    assert seen == in_the_table()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from(ALL_STEPS), max_size=25))
def test_no_order_of_steps_makes_another_change(
    order: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever comes late, twice or out of turn."""
    with watched(tmp_path_factory.mktemp("any")) as (steps, seen):
        for step in ["submit", *order]:
            getattr(steps, step)()
    assert seen <= in_the_table()


@pytest.mark.parametrize("module", [jobs_module, tasks_module], ids=lambda module: module.__name__)
def test_statements_change_states_by_the_table_alone(module: ModuleType) -> None:
    """No state is spelt out outside of the enums, and `values(state=...)` stands in `Change` only."""
    names = {state.value for _, kind in TABLES.values() for state in kind}
    tree = ast.parse(inspect.getsource(module))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not texts & names
    assert inspect.getsource(states).count(".values(state=") == 1
