"""The jobs that are worked on in this process: turns, counts, and what is left of them."""

from typing import Any

from llm_backend.asking.shape import Access
from llm_backend.batches.job_here import JobHere, JobsHere, Work
from llm_backend.batches.limiter import Limiter
from llm_backend.storage import WorkItem
from llm_backend.values import Completion, Endpoint

ENDPOINT = Endpoint("openai", "https://llm.example")
SHAPE: Any = None  # nothing here looks at it


def items(job_id: str, count: int) -> list[WorkItem]:
    """So many taken tasks of the job."""
    first = 1000 * int(job_id)
    return [WorkItem(first + n, job_id, f"{n}:t", n, {"text": "t"}, 0.0) for n in range(1, count + 1)]


def with_tasks(here: JobsHere, job_id: str, count: int, *, most: int = 100) -> JobHere:
    """A job that is worked on here, with tasks that wait; its endpoint takes `most` at once."""
    job = here.of(job_id)
    job.work = Work("1.5", SHAPE, Access(ENDPOINT), Limiter(most), 0.0)
    here.add(job, items(job_id, count), are_all=False)
    return job


def begun(here: JobsHere, low: int = 0) -> tuple[str, int | None, bool] | None:
    """The job and the task that begins next, and whether few are left."""
    found = here.begin(low)
    return (found[0].id, found[2].task_id, found[3]) if found else None


def test_jobs_take_turns_and_tasks_keep_their_order() -> None:
    """A small batch does not wait behind a large one."""
    here = JobsHere()
    with_tasks(here, "1", 3)
    with_tasks(here, "2", 1)
    assert [begun(here) for _ in range(5)] == [
        ("1", 1, False),
        ("2", 1, True),
        ("1", 2, False),
        ("1", 3, True),
        None,
    ]


def test_a_job_whose_endpoint_is_full_lets_others_pass() -> None:
    """Each limiter counts for its own jobs."""
    here = JobsHere()
    with_tasks(here, "1", 3, most=1)
    with_tasks(here, "2", 2)
    assert [found[0] for _ in range(4) if (found := begun(here))] == ["1", "2", "2"]


def test_few_tasks_left_is_said_once_until_more_are_taken() -> None:
    """Whoever takes tasks is not woken for each that begins; nor while the list has no others."""
    here = JobsHere()
    job = with_tasks(here, "1", 4)
    assert [begun(here, 2) for _ in range(3)] == [("1", 1, False), ("1", 2, True), ("1", 3, False)]
    here.add(job, items("1", 1), are_all=False)
    assert begun(here, 2) == ("1", 4, True)
    here.add(job, items("1", 1), are_all=True)
    assert begun(here, 2) == ("1", 1, False)


def test_tokens_are_counted_for_the_latest_request_that_asks_for_the_task() -> None:
    """Two requests of one batch at the same moment are apart by their ids."""
    here = JobsHere()
    job = with_tasks(here, "1", 3)
    one, two, three = items("1", 3)
    with (
        here.counting("1", "first", ["1:t", "2:t"]) as first,
        here.counting("1", "second", ["2:t"]) as second,
    ):
        for item in (one, two, three):
            assert here.count(job, item, Completion((), 10, 2)) == 12
    assert (first.tokens_in, first.tokens_out) == (10, 2)
    assert (second.tokens_in, second.tokens_out) == (10, 2)


def test_nothing_is_left_of_a_job_that_has_ended() -> None:
    """What waits is given back; what is under way, and who is answered, is still known until then."""
    here = JobsHere()
    job = with_tasks(here, "1", 2)
    with_tasks(here, "2", 1)
    begin = here.begin(0)
    assert begin is not None
    with here.counting("1", "a request", []):
        assert [item.row for item in here.take_back(but={"2"})] == [1002]
        assert here.rows() == [2001, 1001]
        here.ended(job, begin[2])
        here.take_back(but={"2"})
        assert here.of("1") is job
    here.take_back(but={"2"})
    assert here.of("1") is not job
