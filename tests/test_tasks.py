"""The tasks of batches: leases, outcomes, counts; the same on SQLite and PostgreSQL."""

import dataclasses
import threading
from pathlib import Path

import pytest

from llm_backend.storage import Database, Jobs, Outcome
from testkit.work import PREDICTION, finish, submit, tasks, work_off
from tests.conftest import Clocks


def test_each_task_is_taken_once(jobs: Jobs) -> None:
    """In order, no more than asked for, and by one owner until the lease runs out."""
    job_id = submit(jobs, tasks(5))
    first = jobs.tasks.lease(job_id, "a", 3, 60)
    second = jobs.tasks.lease(job_id, "b", 3, 60)
    assert [item.task_id for item in first + second] == [1, 2, 3, 4, 5]
    assert first[0].data == {"text": "t"}
    assert jobs.tasks.lease(job_id, "c", 3, 60) == []


def test_what_a_dead_process_took_is_taken_anew(jobs: Jobs) -> None:
    """When its lease has run out, and not before."""
    job_id = submit(jobs, tasks(2))
    assert len(jobs.tasks.lease(job_id, "dead", 1, -1)) == 1
    assert [item.task_id for item in jobs.tasks.lease(job_id, "alive", 5, 60)] == [1, 2]


def test_an_outcome_after_a_lost_lease_is_dropped(database: Database, jobs: Jobs) -> None:
    """The task has one prediction: that of who has it now."""
    job_id = submit(jobs, tasks(1))
    [lost] = jobs.tasks.lease(job_id, "slow", 1, -1)
    [taken] = jobs.tasks.lease(job_id, "fast", 1, 60)
    finish(database, jobs, "fast", [Outcome(taken, PREDICTION | {"score": 1.0})])
    finish(database, jobs, "slow", [Outcome(lost, PREDICTION | {"score": 0.0})])
    [done] = jobs.take_for_delivery(job_id, 5)
    assert done.prediction["score"] == 1.0


def test_a_task_given_back_can_be_taken_at_once(database: Database, jobs: Jobs) -> None:
    """An outcome without prediction and code ends the lease."""
    job_id = submit(jobs, tasks(1))
    [item] = jobs.tasks.lease(job_id, "a", 1, 60)
    finish(database, jobs, "a", [Outcome(item)])
    assert len(jobs.tasks.lease(job_id, "b", 1, 60)) == 1


def test_tasks_that_somebody_waits_for_come_first(jobs: Jobs) -> None:
    """Twenty tasks do not wait behind the ten thousand of an earlier click."""
    job_id = submit(jobs, tasks(50), open_for=-5)
    submit(jobs, tasks(3, first=40), open_for=100)
    assert [item.task_id for item in jobs.tasks.lease(job_id, "me", 4, 60)] == [40, 41, 42, 1]


def test_changed_data_replaces_the_task(database: Database, jobs: Jobs) -> None:
    """A prediction for what the task said before is not delivered."""
    job_id = submit(jobs, tasks(2))
    assert work_off(database, jobs, job_id) == [1, 2]
    submit(jobs, tasks(1, text="other"))
    assert [done.task_id for done in jobs.take_for_delivery(job_id, 9)] == [2]
    assert [item.data for item in jobs.tasks.lease(job_id, "me", 9, 60)] == [{"text": "other"}]


def test_delivered_and_refused_tasks_are_not_delivered_again(database: Database, jobs: Jobs) -> None:
    """The refused ones count as failed."""
    job_id = submit(jobs, tasks(3))
    work_off(database, jobs, job_id)
    one, two, three = jobs.take_for_delivery(job_id, 9)
    jobs.tasks.delivered([one.row])
    jobs.tasks.undeliverable([two.row], "delivery", "gone")
    assert [done.row for done in jobs.take_for_delivery(job_id, 9)] == [three.row]
    progress = jobs.tasks.progress(job_id)
    assert (progress.done, progress.failed, progress.left, progress.tokens) == (2, 1, 0, 9)


def test_many_takers_at_once_take_each_task_once(database: Database, jobs: Jobs) -> None:
    """Whoever comes second waits, looks again, and takes others."""
    job_id = submit(jobs, tasks(200))
    taken: list[int | None] = []

    def take(owner: str) -> None:
        while items := jobs.tasks.lease(job_id, owner, 7, 60):
            taken.extend(item.task_id for item in items)

    threads = [threading.Thread(target=take, args=(f"owner {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # PostgreSQL may leave a taker empty-handed when another was faster: the rest is there for the next.
    take("last")
    assert sorted(task for task in taken if task) == list(range(1, 201))


@pytest.mark.parametrize("jump", [-7200.0, 7200.0, 86400.0 * 365])
def test_a_clock_that_is_set_takes_no_task_from_anybody(clocks: Clocks, jump: float) -> None:
    """Leases run by a clock that nobody sets: nothing is paid for twice, and the outcome counts."""
    jobs = Jobs(clocks.database)
    job_id = submit(jobs, tasks(1))
    [item] = jobs.tasks.lease(job_id, "a", 5, 30)
    clocks.wall += jump
    assert jobs.tasks.lease(job_id, "b", 5, 30) == []
    finish(clocks.database, jobs, "a", [Outcome(item, PREDICTION)])
    assert [done.task_id for done in jobs.take_for_delivery(job_id, 9)] == [1]


def test_progress_survives_a_clock_that_is_set(clocks: Clocks) -> None:
    """What was finished in the future was not finished of late."""
    jobs = Jobs(clocks.database)
    job_id = submit(jobs, tasks(5))
    work_off(clocks.database, jobs, job_id)
    assert jobs.tasks.progress(job_id).per_second == 5
    clocks.wall -= 7200
    assert jobs.tasks.progress(job_id).per_second == 0


def test_the_time_is_that_of_postgresql(postgresql_url: str, tmp_path: Path) -> None:
    """A machine with a wrong clock takes no tasks from others."""
    right = Database(postgresql_url, tmp_path)
    wrong = Database(postgresql_url, tmp_path, clock=lambda: 1e12, steady=lambda: 1e12)
    jobs, other = Jobs(right), Jobs(wrong)
    job_id = submit(jobs, tasks(1))
    assert len(jobs.tasks.lease(job_id, "a", 5, 30)) == 1
    assert other.tasks.lease(job_id, "b", 5, 30) == []
    assert abs(other.now() - jobs.now()) < 60
    right.close()
    wrong.close()


def test_an_outcome_is_for_its_own_task_only(database: Database, jobs: Jobs) -> None:
    """A database that took the place of a corrupt one counts anew: the same row may be another task."""
    job_id = submit(jobs, tasks(1))
    [item] = jobs.tasks.lease(job_id, "me", 1, 60)
    others = dataclasses.replace(item, identity="2:t"), dataclasses.replace(item, job_id="x" * 32)
    finish(database, jobs, "me", [Outcome(other, PREDICTION) for other in others])
    assert jobs.tasks.progress(job_id).left == 1
