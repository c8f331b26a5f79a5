"""The work list: leases, results, deliveries; the same on SQLite and PostgreSQL."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_backend.storage import Database, WorkList
from llm_backend.storage.work import Job, NewTask, Outcome, new_job

PREDICTION = {"result": [], "model_version": "v1"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    database = Database(url, tmp_path)
    yield database
    database.close()


@pytest.fixture
def work(database: Database) -> WorkList:
    """The work list in it."""
    return WorkList(database)


def job(work: WorkList, version: str = "v1", project: str = "1.5") -> Job:
    """A job that may be submitted."""
    return new_job(
        project,
        model_version=version,
        label_config="<View/>",
        extra_params={"model": "m"},
        prompt="p",
        shape="",
        submitted_at=work.now(),
    )


def submit(work: WorkList, a_job: Job, some: list[NewTask], open_for: float = -1) -> str:
    """Submits the tasks for a request that is open for so many seconds."""
    return work.submit(a_job, some, work.now() + open_for)


def tasks(count: int, first: int = 1, text: str = "t") -> list[NewTask]:
    """So many tasks."""
    return [NewTask(f"{n}:{text}", n, {"text": text}) for n in range(first, first + count)]


def finish(database: Database, work: WorkList, owner: str, outcomes: list[Outcome]) -> None:
    """Writes the outcomes down."""
    with database.writing() as connection:
        work.finish(connection, owner, outcomes)


def work_off(database: Database, work: WorkList, job_id: str, *, most: int = 100) -> list[int | None]:
    """Takes and predicts at most so many tasks; their ids."""
    items = work.lease(job_id, "me", most, 60)
    finish(database, work, "me", [Outcome(item, PREDICTION, tokens=3) for item in items])
    return [item.task_id for item in items]


def test_each_task_is_taken_once(work: WorkList) -> None:
    """In order, no more than asked for, and by one owner until the lease runs out."""
    job_id = submit(work, job(work), tasks(5))
    first = work.lease(job_id, "a", 3, 60)
    second = work.lease(job_id, "b", 3, 60)
    assert [item.task_id for item in first + second] == [1, 2, 3, 4, 5]
    assert first[0].data == {"text": "t"}
    assert work.lease(job_id, "c", 3, 60) == []


def test_what_a_dead_process_took_is_taken_anew(work: WorkList) -> None:
    """When its lease has run out, and not before."""
    job_id = submit(work, job(work), tasks(2))
    assert len(work.lease(job_id, "dead", 1, -1)) == 1
    assert [item.task_id for item in work.lease(job_id, "alive", 5, 60)] == [1, 2]


def test_an_outcome_after_a_lost_lease_is_dropped(database: Database, work: WorkList) -> None:
    """The task has one prediction: that of who has it now."""
    job_id = submit(work, job(work), tasks(1))
    [lost] = work.lease(job_id, "slow", 1, -1)
    [taken] = work.lease(job_id, "fast", 1, 60)
    finish(database, work, "fast", [Outcome(taken, PREDICTION | {"score": 1.0})])
    finish(database, work, "slow", [Outcome(lost, PREDICTION | {"score": 0.0})])
    [done] = work.take_for_delivery(job_id, 5)
    assert done.prediction["score"] == 1.0


def test_a_task_given_back_can_be_taken_at_once(database: Database, work: WorkList) -> None:
    """An outcome without prediction and code ends the lease."""
    job_id = submit(work, job(work), tasks(1))
    [item] = work.lease(job_id, "a", 1, 60)
    finish(database, work, "a", [Outcome(item)])
    assert len(work.lease(job_id, "b", 1, 60)) == 1


def test_a_second_request_for_the_same_batch_joins_it(database: Database, work: WorkList) -> None:
    """Done tasks keep their predictions, failed ones get another try, new ones are added."""
    job_id = submit(work, job(work), tasks(3))
    one, two, _ = work.lease(job_id, "me", 3, 60)
    finish(database, work, "me", [Outcome(one, PREDICTION), Outcome(two, code="x", reason="y")])
    assert submit(work, job(work), tasks(4)) == job_id
    progress = work.progress(job_id)
    assert (progress.done, progress.failed, progress.left) == (1, 0, 3)
    assert [item.task_id for item in work.lease(job_id, "me", 9, 60)] == [2, 4]


def test_tasks_that_somebody_waits_for_come_first(work: WorkList) -> None:
    """Twenty tasks do not wait behind the ten thousand of an earlier click."""
    job_id = submit(work, job(work), tasks(50), open_for=-5)
    submit(work, job(work), tasks(3, first=40), open_for=100)
    assert [item.task_id for item in work.lease(job_id, "me", 4, 60)] == [40, 41, 42, 1]


def test_changed_data_replaces_the_task(database: Database, work: WorkList) -> None:
    """A prediction for what the task said before is not delivered."""
    job_id = submit(work, job(work), tasks(2))
    assert work_off(database, work, job_id) == [1, 2]
    submit(work, job(work), tasks(1, text="other"))
    assert [done.task_id for done in work.take_for_delivery(job_id, 9)] == [2]
    assert [item.data for item in work.lease(job_id, "me", 9, 60)] == [{"text": "other"}]


def test_a_batch_with_another_version_ends_the_earlier(work: WorkList) -> None:
    """Of the same project; other projects are left alone."""
    earlier, other = submit(work, job(work, "v1"), tasks(1)), submit(work, job(work, "v1", "2.5"), tasks(1))
    later = submit(work, job(work, "v2"), tasks(1))
    states = {entry.id: entry.state for entry in work.recent_jobs()}
    assert states == {earlier: "stopped", other: "active", later: "active"}


def test_what_a_response_carries_leaves_the_delivery_list(database: Database, work: WorkList) -> None:
    """And what was not done by then stays on the work list."""
    submitted = job(work)
    job_id = submit(work, submitted, tasks(3), open_for=100)
    work_off(database, work, job_id, most=2)
    results = work.hand_over(job_id, ["1:t", "2:t", "3:t"], submitted)
    assert [results[f"{n}:t"].state for n in (1, 2, 3)] == ["done", "done", "pending"]
    assert results["1:t"].prediction == PREDICTION
    assert work.take_for_delivery(job_id, 9) == []
    assert work_off(database, work, job_id) == [3]
    assert [done.task_id for done in work.take_for_delivery(job_id, 9)] == [3]


def test_nothing_is_delivered_while_a_request_is_open(database: Database, work: WorkList) -> None:
    """Its answer may still carry the predictions; of two requests the later one counts."""
    first, second = job(work), job(work)
    job_id = submit(work, first, tasks(1), open_for=50)
    submit(work, second, tasks(1), open_for=100)
    assert not work.lease_delivery(job_id, "a", 60)
    work.hand_over(job_id, ["1:t"], second)
    assert not work.lease_delivery(job_id, "a", 60)
    work.hand_over(job_id, ["1:t"], first)
    assert work.lease_delivery(job_id, "a", 60)
    assert work.lease_delivery(job_id, "a", 60)
    assert not work.lease_delivery(job_id, "b", 60)
    work.release_delivery(job_id, "b")
    assert not work.lease_delivery(job_id, "b", 60)
    work.release_delivery(job_id, "a")
    assert work.lease_delivery(job_id, "b", 60)


def test_two_answers_do_not_carry_the_same_prediction(database: Database, work: WorkList) -> None:
    """Of two clicks at the same time one gets it; a click afterwards gets it again."""
    first, second = job(work), job(work)
    job_id = submit(work, first, tasks(1), open_for=50)
    submit(work, second, tasks(1), open_for=50)
    work_off(database, work, job_id)
    assert work.hand_over(job_id, ["1:t"], first)["1:t"].prediction == PREDICTION
    assert work.hand_over(job_id, ["1:t"], second)["1:t"].prediction is None
    third = job(work)
    submit(work, third, tasks(1), open_for=50)
    assert work.hand_over(job_id, ["1:t"], third)["1:t"].prediction == PREDICTION


def test_a_job_is_done_only_when_nothing_is_left(database: Database, work: WorkList) -> None:
    """No pending task, and nobody who waits."""
    request = job(work)
    job_id = submit(work, request, tasks(1), open_for=50)
    assert not work.end_finished(job_id)
    work_off(database, work, job_id)
    assert not work.end_finished(job_id)
    work.hand_over(job_id, ["1:t"], request)
    assert work.end_finished(job_id)


def test_the_same_batch_from_two_sides_is_one_job(work: WorkList) -> None:
    """A double click over two replicas."""
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(submit(work, job(work), tasks(20)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert work.progress(ids[0]).left == 20


def test_another_key_takes_effect(work: WorkList) -> None:
    """It makes no other version, so the job has to learn it."""
    job_id = submit(work, job(work), tasks(1))
    work.end(job_id, "failed", reason="wrong key")
    submit(work, dataclasses.replace(job(work), extra_params={"api_key": "right"}), tasks(1))
    [active] = work.active_jobs()
    assert (active.id, active.extra_params) == (job_id, {"api_key": "right"})


def test_delivered_and_refused_tasks_are_not_delivered_again(database: Database, work: WorkList) -> None:
    """The refused ones count as failed."""
    job_id = submit(work, job(work), tasks(3))
    work_off(database, work, job_id)
    one, two, three = work.take_for_delivery(job_id, 9)
    work.delivered([one.row])
    work.undeliverable([two.row], "delivery", "gone")
    assert [done.row for done in work.take_for_delivery(job_id, 9)] == [three.row]
    progress = work.progress(job_id)
    assert (progress.done, progress.failed, progress.left, progress.tokens) == (2, 1, 0, 9)


def test_an_ended_job_is_waited_for_no_more(work: WorkList) -> None:
    """A request answers with what there is."""
    open_until = work.now() + 100
    job_id = work.submit(job(work), tasks(1), open_until)
    assert work.is_waited_for(job_id, open_until)
    assert work.end(job_id, "stopped", reason="enough")
    assert not work.end(job_id, "done")
    assert not work.is_waited_for(job_id, open_until)
    assert work.active_jobs() == []


def test_old_ended_jobs_are_dropped(work: WorkList) -> None:
    """With their tasks; active ones stay."""
    ended, active = (
        submit(work, job(work, "v1", "1.5"), tasks(2)),
        submit(work, job(work, "v1", "2.5"), tasks(2)),
    )
    work.end(ended, "done")
    work.prune(max_age=-1)
    assert [entry.id for entry in work.recent_jobs()] == [active]
    assert work.progress(ended).left == 0


def test_many_takers_at_once_take_each_task_once(database: Database, work: WorkList) -> None:
    """Whoever comes second waits, looks again, and takes others."""
    job_id = submit(work, job(work), tasks(200))
    taken: list[int | None] = []

    def take(owner: str) -> None:
        while items := work.lease(job_id, owner, 7, 60):
            taken.extend(item.task_id for item in items)

    threads = [threading.Thread(target=take, args=(f"owner {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # PostgreSQL may leave a taker empty-handed when another was faster: the rest is there for the next.
    take("last")
    assert sorted(task for task in taken if task) == list(range(1, 201))


def test_what_is_on_its_way_is_not_answered_as_well(database: Database, work: WorkList) -> None:
    """A request that comes during a delivery gets the rest, and no task gets two predictions."""
    job_id = submit(work, job(work), tasks(2))
    assert work_off(database, work, job_id, most=1) == [1]
    [on_its_way] = work.take_for_delivery(job_id, 9)
    again = job(work)
    assert submit(work, again, tasks(2), open_for=100) == job_id
    assert work_off(database, work, job_id) == [2]
    assert work.take_for_delivery(job_id, 9) == []
    results = work.hand_over(job_id, ["1:t", "2:t"], again)
    assert results["1:t"].prediction is None
    assert results["2:t"].prediction == PREDICTION
    assert work.take_for_delivery(job_id, 9) == [on_its_way]
    work.delivered([on_its_way.row])
    assert work.take_for_delivery(job_id, 9) == []


def test_an_answer_and_tasks_that_finish_meanwhile_lose_nothing(database: Database, work: WorkList) -> None:
    """A task leaves the list only with an answer that carries its prediction."""
    request = job(work)
    job_id = submit(work, request, tasks(200))
    items = work.lease(job_id, "me", 200, 60)
    answered: list[str] = []

    def answer() -> None:
        for _ in range(20):
            results = work.hand_over(job_id, [f"{n}:t" for n in range(1, 201)], request)
            answered.extend(name for name, result in results.items() if result.prediction)

    thread = threading.Thread(target=answer)
    thread.start()
    for item in items:
        finish(database, work, "me", [Outcome(item, PREDICTION)])
    thread.join()
    left = [f"{task.task_id}:t" for task in work.take_for_delivery(job_id, 500)]
    assert sorted(answered + left) == sorted(f"{n}:t" for n in range(1, 201))


class Clocks:
    """What a database on SQLite takes for the time; a test sets it."""

    def __init__(self, folder: Path) -> None:
        self.wall, self.steady = 1_000_000.0, 5_000.0
        self.database = Database(None, folder, clock=lambda: self.wall, steady=lambda: self.steady)


@pytest.fixture
def clocks(tmp_path: Path) -> Iterator[Clocks]:
    """A database whose clocks the test sets."""
    clocks = Clocks(tmp_path)
    yield clocks
    clocks.database.close()


@pytest.mark.parametrize("jump", [-7200.0, 7200.0, 86400.0 * 365])
def test_a_clock_that_is_set_takes_no_task_from_anybody(clocks: Clocks, jump: float) -> None:
    """Leases run by a clock that nobody sets: nothing is paid for twice, and the outcome counts."""
    work = WorkList(clocks.database)
    job_id = submit(work, job(work), tasks(1))
    [item] = work.lease(job_id, "a", 5, 30)
    clocks.wall += jump
    assert work.lease(job_id, "b", 5, 30) == []
    finish(clocks.database, work, "a", [Outcome(item, PREDICTION)])
    assert [done.task_id for done in work.take_for_delivery(job_id, 9)] == [1]


@pytest.mark.parametrize("jump", [-4000.0, 4000.0])
def test_no_lease_lasts_for_ever(clocks: Clocks, jump: float) -> None:
    """After a restart of the machine the steady clock begins anew: tasks, requests and deliveries go on."""
    work = WorkList(clocks.database, longest_request=160)
    job_id = submit(work, job(work), tasks(2), open_for=100)
    [item, _] = work.lease(job_id, "a", 5, 30)
    finish(clocks.database, work, "a", [Outcome(item, PREDICTION)])
    clocks.steady += jump
    assert [item.task_id for item in work.lease(job_id, "b", 5, 30)] == [2]
    assert work.lease_delivery(job_id, "b", 300)
    clocks.steady += jump / 2
    assert work.lease_delivery(job_id, "c", 300)
    assert [done.task_id for done in work.take_for_delivery(job_id, 9)] == [1]
    work.prune(max_age=-1)
    assert work.end(job_id, "failed", reason="the key", submitted_before=work.now())


def test_what_a_response_had_before_a_restart_is_given_again(clocks: Clocks) -> None:
    """That it was handed over in the future does not keep it from those who ask now."""
    work = WorkList(clocks.database)
    first = job(work)
    job_id = submit(work, first, tasks(1), open_for=50)
    work_off(clocks.database, work, job_id)
    assert work.hand_over(job_id, ["1:t"], first)["1:t"].prediction == PREDICTION
    clocks.steady -= 4000
    second = job(work)
    submit(work, second, tasks(1), open_for=50)
    assert work.hand_over(job_id, ["1:t"], second)["1:t"].prediction == PREDICTION


def test_progress_survives_a_clock_that_is_set(clocks: Clocks) -> None:
    """What was finished in the future was not finished of late."""
    work = WorkList(clocks.database)
    job_id = submit(work, job(work), tasks(5))
    work_off(clocks.database, work, job_id)
    assert work.progress(job_id).per_second == 5
    clocks.wall -= 7200
    assert work.progress(job_id).per_second == 0


def test_the_time_is_that_of_postgresql(postgresql_url: str, tmp_path: Path) -> None:
    """A machine with a wrong clock takes no tasks from others."""
    right = Database(postgresql_url, tmp_path)
    wrong = Database(postgresql_url, tmp_path, clock=lambda: 1e12, steady=lambda: 1e12)
    work, other = WorkList(right), WorkList(wrong)
    job_id = submit(work, job(work), tasks(1))
    assert len(work.lease(job_id, "a", 5, 30)) == 1
    assert other.lease(job_id, "b", 5, 30) == []
    assert abs(other.now() - work.now()) < 60
    right.close()
    wrong.close()


def test_an_outcome_is_for_its_own_task_only(database: Database, work: WorkList) -> None:
    """A database that took the place of a corrupt one counts anew: the same row may be another task."""
    job_id = submit(work, job(work), tasks(1))
    [item] = work.lease(job_id, "me", 1, 60)
    others = dataclasses.replace(item, identity="2:t"), dataclasses.replace(item, job_id="x" * 32)
    finish(database, work, "me", [Outcome(other, PREDICTION) for other in others])
    assert work.progress(job_id).left == 1
