"""The work list: what is submitted, answered, delivered and ended; the same on SQLite and PostgreSQL."""

import threading
from typing import Any

import pytest

from llm_backend.storage import Database, JobChange, Jobs, JobState, Outcome, TaskState
from testkit.work import PREDICTION, batch, finish, request, submit, tasks, work_off
from tests.conftest import Clocks


def test_a_second_request_for_the_same_batch_joins_it(database: Database, jobs: Jobs) -> None:
    """Done tasks keep their predictions, failed ones get another try, new ones are added."""
    job_id = submit(jobs, tasks(3))
    one, two, _ = jobs.tasks.lease(job_id, "me", 3, 60)
    finish(database, jobs, "me", [Outcome(one, PREDICTION), Outcome(two, code="x", reason="y")])
    assert submit(jobs, tasks(4)) == job_id
    progress = jobs.tasks.progress(job_id)
    assert (progress.done, progress.failed, progress.left) == (1, 0, 3)
    assert [item.task_id for item in jobs.tasks.lease(job_id, "me", 9, 60)] == [2, 4]


def test_a_batch_with_another_version_ends_the_earlier(jobs: Jobs) -> None:
    """Of the same project; other projects are left alone."""
    earlier, other = submit(jobs, tasks(1), batch("v1")), submit(jobs, tasks(1), batch("v1", "2.5"))
    later = submit(jobs, tasks(1), batch("v2"))
    states = {entry.id: entry.state for entry in jobs.recent()}
    assert states == {earlier: JobState.STOPPED, other: JobState.ACTIVE, later: JobState.ACTIVE}


def test_what_a_response_carries_leaves_the_delivery_list(database: Database, jobs: Jobs) -> None:
    """And what was not done by then stays on the work list."""
    asked = request(jobs, 100)
    job_id = jobs.submit(batch(), tasks(3), asked)
    work_off(database, jobs, job_id, most=2)
    results = jobs.hand_over(job_id, ["1:t", "2:t", "3:t"], asked)
    states = [results[f"{n}:t"].state for n in (1, 2, 3)]
    assert states == [TaskState.DONE, TaskState.DONE, TaskState.PENDING]
    assert results["1:t"].prediction == PREDICTION
    assert jobs.take_for_delivery(job_id, 9) == []
    assert work_off(database, jobs, job_id) == [3]
    assert [done.task_id for done in jobs.take_for_delivery(job_id, 9)] == [3]


def test_nothing_is_delivered_while_a_request_is_open(database: Database, jobs: Jobs) -> None:
    """Its answer may still carry the predictions; of two requests the later one counts."""
    first, second = request(jobs, 50), request(jobs, 100)
    job_id = jobs.submit(batch(), tasks(1), first)
    jobs.submit(batch(), tasks(1), second)
    assert not jobs.lease_delivery(job_id, "a", 60)
    jobs.hand_over(job_id, ["1:t"], second)
    assert not jobs.lease_delivery(job_id, "a", 60)
    jobs.hand_over(job_id, ["1:t"], first)
    assert jobs.lease_delivery(job_id, "a", 60)
    assert jobs.lease_delivery(job_id, "a", 60)
    assert not jobs.lease_delivery(job_id, "b", 60)
    jobs.release_delivery(job_id, "b")
    assert not jobs.lease_delivery(job_id, "b", 60)
    jobs.release_delivery(job_id, "a")
    assert jobs.lease_delivery(job_id, "b", 60)


def test_two_answers_do_not_carry_the_same_prediction(database: Database, jobs: Jobs) -> None:
    """Of two clicks at the same time one gets it; a click afterwards gets it again."""
    first, second = request(jobs, 50), request(jobs, 50)
    job_id = jobs.submit(batch(), tasks(1), first)
    jobs.submit(batch(), tasks(1), second)
    work_off(database, jobs, job_id)
    assert jobs.hand_over(job_id, ["1:t"], first)["1:t"].prediction == PREDICTION
    assert jobs.hand_over(job_id, ["1:t"], second)["1:t"].prediction is None
    third = request(jobs, 50)
    jobs.submit(batch(), tasks(1), third)
    assert jobs.hand_over(job_id, ["1:t"], third)["1:t"].prediction == PREDICTION


def test_a_job_is_done_only_when_nothing_is_left(database: Database, jobs: Jobs) -> None:
    """No pending task, and nobody who waits."""
    asked = request(jobs, 50)
    job_id = jobs.submit(batch(), tasks(1), asked)
    assert not jobs.end_finished(job_id)
    work_off(database, jobs, job_id)
    assert not jobs.end_finished(job_id)
    jobs.hand_over(job_id, ["1:t"], asked)
    assert jobs.end_finished(job_id)


def test_the_same_batch_from_two_sides_is_one_job(jobs: Jobs) -> None:
    """A double click over two replicas."""
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(submit(jobs, tasks(20)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert jobs.tasks.progress(ids[0]).left == 20


@pytest.mark.parametrize(
    "changed", [{"extra_params": {"api_key": "right"}}, {"label_config": "<View> </View>"}, {"shape": "{}"}]
)
def test_a_job_goes_on_with_what_it_was_submitted_with_last(jobs: Jobs, changed: dict[str, Any]) -> None:
    """A key or a comment in the labeling config makes no other version, so the job has to learn it."""
    job_id = submit(jobs, tasks(1))
    jobs.end(job_id, JobChange.FAILED, reason="wrong key")
    submit(jobs, tasks(1), batch(**changed))
    [active] = jobs.active()
    assert (active.id, active.reason) == (job_id, "")
    assert {name: getattr(active, name) for name in changed} == changed


def test_an_ended_job_is_waited_for_no_more(jobs: Jobs) -> None:
    """A request answers with what there is."""
    asked = request(jobs, 100)
    job_id = jobs.submit(batch(), tasks(1), asked)
    assert jobs.is_waited_for(job_id, asked)
    assert jobs.end(job_id, JobChange.STOPPED, reason="enough")
    assert not jobs.end(job_id, JobChange.FINISHED)
    assert not jobs.is_waited_for(job_id, asked)
    assert jobs.active() == []


def test_old_ended_jobs_are_dropped(jobs: Jobs) -> None:
    """With their tasks; active ones stay."""
    ended, active = (
        submit(jobs, tasks(2), batch("v1", "1.5")),
        submit(jobs, tasks(2), batch("v1", "2.5")),
    )
    jobs.end(ended, JobChange.FINISHED)
    jobs.prune(max_age=-1)
    assert [entry.id for entry in jobs.recent()] == [active]
    assert jobs.tasks.progress(ended).left == 0


def test_what_is_on_its_way_is_not_answered_as_well(database: Database, jobs: Jobs) -> None:
    """A request that comes during a delivery gets the rest, and no task gets two predictions."""
    job_id = submit(jobs, tasks(2))
    assert work_off(database, jobs, job_id, most=1) == [1]
    [on_its_way] = jobs.take_for_delivery(job_id, 9)
    again = request(jobs, 100)
    assert jobs.submit(batch(), tasks(2), again) == job_id
    assert work_off(database, jobs, job_id) == [2]
    assert jobs.take_for_delivery(job_id, 9) == []
    results = jobs.hand_over(job_id, ["1:t", "2:t"], again)
    assert results["1:t"].prediction is None
    assert results["2:t"].prediction == PREDICTION
    assert jobs.take_for_delivery(job_id, 9) == [on_its_way]
    jobs.tasks.delivered([on_its_way.row])
    assert jobs.take_for_delivery(job_id, 9) == []


def test_an_answer_and_tasks_that_finish_meanwhile_lose_nothing(database: Database, jobs: Jobs) -> None:
    """A task leaves the list only with an answer that carries its prediction."""
    asked = request(jobs)
    job_id = jobs.submit(batch(), tasks(200), asked)
    items = jobs.tasks.lease(job_id, "me", 200, 60)
    answered: list[str] = []

    def answer() -> None:
        for _ in range(20):
            results = jobs.hand_over(job_id, [f"{n}:t" for n in range(1, 201)], asked)
            answered.extend(name for name, result in results.items() if result.prediction)

    thread = threading.Thread(target=answer)
    thread.start()
    for item in items:
        finish(database, jobs, "me", [Outcome(item, PREDICTION)])
    thread.join()
    left = [f"{task.task_id}:t" for task in jobs.take_for_delivery(job_id, 500)]
    assert sorted(answered + left) == sorted(f"{n}:t" for n in range(1, 201))


@pytest.mark.parametrize("jump", [-4000.0, 4000.0])
def test_no_lease_lasts_for_ever(clocks: Clocks, jump: float) -> None:
    """After a restart of the machine the steady clock begins anew: tasks, requests and deliveries go on."""
    jobs = Jobs(clocks.database, longest_request=160)
    job_id = submit(jobs, tasks(2), open_for=100)
    [item, _] = jobs.tasks.lease(job_id, "a", 5, 30)
    finish(clocks.database, jobs, "a", [Outcome(item, PREDICTION)])
    clocks.steady += jump
    assert [item.task_id for item in jobs.tasks.lease(job_id, "b", 5, 30)] == [2]
    assert jobs.lease_delivery(job_id, "b", 300)
    clocks.steady += jump / 2
    assert jobs.lease_delivery(job_id, "c", 300)
    assert [done.task_id for done in jobs.take_for_delivery(job_id, 9)] == [1]
    jobs.prune(max_age=-1)
    assert jobs.end(job_id, JobChange.FAILED, reason="the key", submitted_before=jobs.now())


def test_what_a_response_had_before_a_restart_is_given_again(clocks: Clocks) -> None:
    """That it was handed over in the future does not keep it from those who ask now."""
    jobs = Jobs(clocks.database)
    first = request(jobs, 50)
    job_id = jobs.submit(batch(), tasks(1), first)
    work_off(clocks.database, jobs, job_id)
    assert jobs.hand_over(job_id, ["1:t"], first)["1:t"].prediction == PREDICTION
    clocks.steady -= 4000
    second = request(jobs, 50)
    jobs.submit(batch(), tasks(1), second)
    assert jobs.hand_over(job_id, ["1:t"], second)["1:t"].prediction == PREDICTION
