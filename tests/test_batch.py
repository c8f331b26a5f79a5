"""Batches: order, limits, deadlines, and that one task's failure stays its own."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_backend.batch import BatchRunner
from llm_backend.errors import (
    AuthenticationFailedError,
    BackendError,
    CompletionTimeoutError,
    ConnectionFailedError,
    ContentFilteredError,
    InputError,
    MissingSettingsError,
    ModelNotFoundError,
    QuotaExhaustedError,
    RateLimitedError,
)
from llm_backend.metrics import Metrics
from llm_backend.values import Json

WAIT = 20.0  # only ever waited for in full when a test fails

MakeRunner = Callable[..., BatchRunner]


@pytest.fixture
def metrics() -> Metrics:
    """Counters for one test."""
    return Metrics()


@pytest.fixture
def make_runner(metrics: Metrics) -> Iterator[MakeRunner]:
    """Makes runners and ends their threads."""
    runners: list[BatchRunner] = []

    def make(max_concurrency: int = 4, timeout: float = WAIT) -> BatchRunner:
        runners.append(BatchRunner(metrics, max_concurrency=max_concurrency, timeout=timeout))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def tasks(count: int) -> list[Json]:
    """Tasks with ids from 0."""
    return [{"id": number, "data": {}} for number in range(count)]


def prediction(task: Json) -> Json:
    """A prediction from which one sees which task it is for."""
    return {"result": [], "model_version": str(task["id"])}


def outcomes(metrics: Metrics) -> dict[str, float]:
    """How many tasks had which outcome."""
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name == "llm_backend_tasks_total"
    }


def test_one_entry_per_task_in_order(make_runner: MakeRunner, metrics: Metrics) -> None:
    """However many tasks there are, their predictions come back in their order."""
    assert make_runner().run(tasks(50), prediction) == [prediction(task) for task in tasks(50)]
    assert outcomes(metrics) == {"predicted": 50}


def test_no_tasks_give_no_entries(make_runner: MakeRunner) -> None:
    """An empty batch is answered, not refused."""
    assert make_runner().run([], prediction) == []


def test_order_does_not_depend_on_speed(make_runner: MakeRunner) -> None:
    """The first task may end last and still is the first entry."""
    last_is_done = threading.Event()

    def predict(task: Json) -> Json:
        if task["id"] == 0:
            assert last_is_done.wait(WAIT)
        if task["id"] == 3:
            last_is_done.set()
        return prediction(task)

    assert make_runner().run(tasks(4), predict) == [prediction(task) for task in tasks(4)]


def test_tasks_run_side_by_side_within_the_limit(make_runner: MakeRunner) -> None:
    """As many tasks as allowed are under way at once, in all batches together, and never more."""
    together = threading.Barrier(3)
    lock = threading.Lock()
    under_way, most = 0, 0

    def predict(task: Json) -> Json:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(WAIT)  # three at once, or the test fails
        with lock:
            under_way -= 1
        return prediction(task)

    runner = make_runner(max_concurrency=3)
    results: list[object] = []
    batches = [
        threading.Thread(target=lambda: results.append(runner.run(tasks(6), predict))) for _ in range(2)
    ]
    for batch in batches:
        batch.start()
    for batch in batches:
        batch.join(WAIT)
    assert results == [[prediction(task) for task in tasks(6)]] * 2
    assert most == 3


@pytest.mark.parametrize(
    "error",
    [
        InputError("no field"),
        RateLimitedError("slow down"),
        CompletionTimeoutError("late"),
        ContentFilteredError("reword"),
        KeyError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_failure_stays_its_own(make_runner: MakeRunner, error: Exception) -> None:
    """A task that fails has an empty list, which Label Studio asks for again; the others are predicted."""

    def predict(task: Json) -> Json:
        if task["id"] == 1:
            raise error
        return prediction(task)

    assert make_runner().run(tasks(4), predict) == [
        prediction({"id": 0}),
        [],
        prediction({"id": 2}),
        prediction({"id": 3}),
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("no such field"), "task_data"), (KeyError("a bug"), "internal_error")]
)
def test_a_failure_is_logged_and_counted(
    make_runner: MakeRunner, metrics: Metrics, caplog: pytest.LogCaptureFixture, error: Exception, code: str
) -> None:
    """No failure is lost without a trace, a bug of ours least of all."""

    def predict(task: Json) -> Json:
        if task["id"] == 1:
            raise error
        return prediction(task)

    with caplog.at_level(logging.WARNING, logger="llm_backend.batch"):
        make_runner().run(tasks(2), predict)
    assert "1" in caplog.text
    assert outcomes(metrics) == {"predicted": 1, code: 1}


def test_when_nothing_succeeds_the_first_failure_says_why(make_runner: MakeRunner) -> None:
    """A batch without any prediction fails as a whole, with the reason of its first task."""

    def predict(task: Json) -> Json:
        raise InputError(f"reason of task {task['id']}")

    with pytest.raises(InputError, match="reason of task 0"):
        make_runner().run(tasks(3), predict)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailedError("wrong key"),
        ModelNotFoundError("no such model"),
        QuotaExhaustedError("no money"),
        MissingSettingsError("no key"),
        ConnectionFailedError("nobody there"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_hopeless_failure_ends_the_batch(make_runner: MakeRunner, error: BackendError) -> None:
    """With a wrong key the other tasks are not even tried."""
    asked: list[int] = []

    def predict(task: Json) -> Json:
        asked.append(task["id"])
        raise error

    with pytest.raises(type(error)):
        make_runner(max_concurrency=1).run(tasks(30), predict)
    assert asked == [0]


def test_what_was_paid_for_before_a_hopeless_failure_is_kept(make_runner: MakeRunner) -> None:
    """The predictions there are at that point are answered; the rest will be asked for again."""

    def predict(task: Json) -> Json:
        if task["id"] == 2:
            raise QuotaExhaustedError("no money")
        return prediction(task)

    entries = make_runner(max_concurrency=1).run(tasks(5), predict)
    assert entries == [prediction({"id": 0}), prediction({"id": 1}), [], [], []]


def test_one_hopeless_batch_does_not_end_the_next(make_runner: MakeRunner) -> None:
    """Every batch starts with hope: the key may have been set right."""
    runner = make_runner()

    def fail(task: Json) -> Json:
        raise AuthenticationFailedError("wrong key")

    with pytest.raises(AuthenticationFailedError):
        runner.run(tasks(2), fail)
    assert runner.run(tasks(2), prediction) == [prediction(task) for task in tasks(2)]


def test_what_is_late_is_left_out(make_runner: MakeRunner) -> None:
    """At the deadline the batch is answered with what there is, and tasks that wait are never started."""
    release = threading.Event()
    started: list[int] = []

    def predict(task: Json) -> Json:
        started.append(task["id"])
        if task["id"] > 0:
            release.wait(WAIT)
        return prediction(task)

    runner = make_runner(max_concurrency=1, timeout=1.5)
    try:
        assert runner.run(tasks(4), predict) == [prediction({"id": 0}), [], [], []]
    finally:
        release.set()
    assert runner.run(tasks(1), prediction) == [prediction({"id": 0})]
    assert started == [0, 1]


def test_when_everything_is_late_the_batch_fails(make_runner: MakeRunner) -> None:
    """A batch of which nothing was done in time says so, instead of answering only empty lists."""
    release = threading.Event()

    def predict(task: Json) -> Json:
        release.wait(WAIT)
        return prediction(task)

    try:
        with pytest.raises(CompletionTimeoutError):
            make_runner(timeout=0.1).run(tasks(2), predict)
    finally:
        release.set()
