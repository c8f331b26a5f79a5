"""What `/metrics` counts, read back with Prometheus' own parser."""

import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_backend import __version__
from llm_backend.errors import RateLimitedError
from llm_backend.operations.metrics import Metrics
from testkit.stub_llm import Answer, StubLLM, completion, failure
from tests.conftest import TASK, Backend, MakeApp

Samples = dict[tuple[str, ...], float]


def samples_of(text: str) -> Samples:
    """All samples by their name and their labels' values in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(metrics: Metrics) -> Samples:
    """Those of a metrics object."""
    return samples_of(metrics.text().decode())


def scraped(backend: Backend) -> Samples:
    """Those that `/metrics` of an app answers with."""
    return samples_of(backend.client.get("/metrics").text)


def test_requests_are_counted_and_timed_by_endpoint() -> None:
    """Every answered request counts once, for its endpoint and status, and is in its endpoint's histogram."""
    metrics = Metrics()
    for status in (200, 200, 422):
        metrics.request("predict", status, 0.3)
    found = samples(metrics)
    assert found["llm_backend_requests_total", "predict", "200"] == 2
    assert found["llm_backend_requests_total", "predict", "422"] == 1
    assert found["llm_backend_request_seconds_count", "predict"] == 3
    assert found["llm_backend_request_seconds_bucket", "predict", "0.25"] == 0
    assert found["llm_backend_request_seconds_bucket", "predict", "0.5"] == 3


def test_tasks_are_counted_by_outcome() -> None:
    """A task counts as predicted or under the code of its error."""
    metrics = Metrics()
    for outcome in ("predicted", "task_data", "predicted"):
        metrics.task(outcome)
    found = samples(metrics)
    assert found["llm_backend_tasks_total", "predicted"] == 2
    assert found["llm_backend_tasks_total", "task_data"] == 1


def test_a_completion_is_counted_and_timed_with_its_tokens() -> None:
    """A completion that succeeds adds one outcome, one time and its tokens in both directions."""
    metrics = Metrics()
    with metrics.completion("openai") as record:
        record(11, 5)
    found = samples(metrics)
    assert found["llm_backend_completions_total", "succeeded", "openai"] == 1
    assert found["llm_backend_tokens_total", "in", "openai"] == 11
    assert found["llm_backend_tokens_total", "out", "openai"] == 5
    assert found["llm_backend_completion_seconds_count", "openai"] == 1


@pytest.mark.parametrize(
    ("error", "outcome"), [(RateLimitedError("Slow down"), "rate_limited"), (KeyError("bug"), "failed")]
)
def test_a_failed_completion_is_counted_under_its_cause(error: Exception, outcome: str) -> None:
    """A failure counts under its code, is timed like a success, and is passed on."""
    metrics = Metrics()
    with pytest.raises(type(error)), metrics.completion("azure"):
        raise error
    found = samples(metrics)
    assert found["llm_backend_completions_total", outcome, "azure"] == 1
    assert found["llm_backend_completion_seconds_count", "azure"] == 1
    assert found["llm_backend_completions_under_way",] == 0


def test_completions_under_way_are_a_gauge() -> None:
    """The gauge shows what is being waited for now."""
    metrics = Metrics()
    with metrics.completion("openai"), metrics.completion("ollama"):
        assert samples(metrics)["llm_backend_completions_under_way",] == 2
    assert samples(metrics)["llm_backend_completions_under_way",] == 0


def test_two_servers_in_one_process_count_apart() -> None:
    """Metrics objects share nothing, so that two apps can live in one process."""
    first, second = Metrics(), Metrics()
    first.task("predicted")
    assert ("llm_backend_tasks_total", "predicted") not in samples(second)


def test_requests_under_way_come_and_go(backend: Backend, stub: StubLLM) -> None:
    """A request that waits for the LLM is under way, and then no more; the scrape itself always is."""
    asked, release = threading.Event(), threading.Event()

    def hang(call: object) -> Answer:
        asked.set()
        release.wait(10)
        return completion("ok")

    stub.answer = hang
    thread = threading.Thread(target=backend.predict, kwargs={"prompt": "x"})
    thread.start()
    assert asked.wait(10)
    try:
        during = scraped(backend)
    finally:
        release.set()
        thread.join()
    assert during["llm_backend_requests_under_way", "predict"] == 1
    assert during["llm_backend_completions_under_way",] == 1
    after = scraped(backend)
    assert after["llm_backend_requests_under_way", "predict"] == 0
    assert after["llm_backend_requests_under_way", "metrics"] == 1


def test_a_refused_request_is_not_left_under_way(make_backend: MakeApp) -> None:
    """Nor is one without credentials, which no route has seen."""
    backend = make_backend(BASIC_AUTH_USER="user", BASIC_AUTH_PASS="pass")
    assert backend.client.post("/predict", json={}).status_code == 401
    found = samples(backend.services.metrics)
    assert found["llm_backend_requests_under_way", "predict"] == 0
    assert found["llm_backend_requests_total", "predict", "401"] == 1


def test_strangers_make_no_labels(backend: Backend) -> None:
    """Unknown paths and methods share one value, and neither projects nor models make any."""
    backend.client.get("/a-path-of-a-stranger")
    backend.client.open("/health", method="STRANGE")
    backend.client.delete("/jobs/a-job-of-a-stranger")
    backend.setup(project="5.stranger", extra_params={"model": "strange-model"})
    backend.predict(prompt="x", project="5.stranger")
    text = backend.client.get("/metrics").text
    assert samples_of(text)["llm_backend_requests_total", "unknown", "404"] == 1
    assert samples_of(text)["llm_backend_requests_total", "unknown", "405"] == 1
    assert "strange" not in text.lower()


def test_hits_and_misses_of_the_cache(make_backend: MakeApp) -> None:
    """The same task with the same prompt is a miss once and a hit from then on."""
    first = make_backend(DEFAULT_PROMPT="p")
    first.predict([TASK])
    found = scraped(first)
    assert found["llm_backend_cache_lookups_total", "miss"] == 1
    assert found["llm_backend_cache_lookups_total", "hit"] == 0
    first.services.close()
    second = make_backend(DEFAULT_PROMPT="p")
    second.predict([TASK])
    found = scraped(second)
    assert found["llm_backend_cache_lookups_total", "hit"] == 1
    assert found["llm_backend_cache_lookups_total", "miss"] == 0
    assert ("llm_backend_completions_total", "succeeded", "openai") not in found


def test_a_person_who_asks_again_misses(backend: Backend) -> None:
    """Other prompts are completions of their own, and tasks with an outcome."""
    backend.predict(prompt="x")
    backend.predict(prompt="y")
    found = scraped(backend)
    assert found["llm_backend_cache_lookups_total", "miss"] == 2
    assert found["llm_backend_tasks_total", "predicted"] == 2


def test_retries_are_counted(make_backend: MakeApp, stub: StubLLM) -> None:
    """Each try after the first, whatever comes of it; the completion counts once."""
    stub.says(failure(500), failure(500), "Sarcastic")
    backend = make_backend()
    assert backend.predict(prompt="x").status_code == 200
    found = scraped(backend)
    assert found["llm_backend_completion_retries_total", "openai"] == 2
    assert found["llm_backend_completions_total", "succeeded", "openai"] == 1


@pytest.mark.parametrize("request_", [{"prompt": "x"}, {}])
def test_a_task_that_fails_is_counted(make_backend: MakeApp, stub: StubLLM, request_: dict[str, Any]) -> None:
    """Under the code of its error, typed in or opened."""
    stub.says(failure(401))
    backend = make_backend(DEFAULT_PROMPT="p")
    assert backend.predict(**request_).status_code == 502
    assert scraped(backend)["llm_backend_tasks_total", "provider_authentication"] == 1


def test_the_tasks_that_are_left(make_backend: MakeApp, stub: StubLLM) -> None:
    """What a batch has not done yet is counted in the database, and nothing when all is done."""
    stub.says(Answer(429, {"error": {"message": "slow"}}, {"Retry-After": "30"}))
    backend = make_backend(DEFAULT_PROMPT="p", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="1")
    assert scraped(backend)["llm_backend_tasks_left",] == 0
    tasks = [{"id": number, "data": {"text": f"text {number}"}} for number in range(7)]
    backend.predict(tasks)
    other = make_backend()
    assert scraped(other)["llm_backend_tasks_left",] == 7


def test_a_broken_database_does_not_break_the_rest(make_backend: MakeApp) -> None:
    """The tasks that are left are left out."""
    backend = make_backend(DATABASE_URL="postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    answer = backend.client.get("/metrics")
    assert answer.status_code == 200
    assert "llm_backend_build_info" in answer.text
    assert "llm_backend_tasks_left" not in answer.text


def test_the_build_info_says_what_runs(make_backend: MakeApp) -> None:
    """Version, provider and model are labels."""
    backend = make_backend(OPENAI_MODEL="a-model")
    found = scraped(backend)
    assert found["llm_backend_build_info", "a-model", "openai", __version__] == 1


def metrics_table() -> list[str]:
    """One row for each metric, as `/metrics` has it when everything has happened."""
    metrics = Metrics(about={"version": "", "provider": "", "model": ""})
    metrics.request_began("predict")
    metrics.request("predict", 200, 1)
    metrics.task("predicted")
    metrics.retry("openai")
    with metrics.completion("openai") as record:
        record(1, 1)
    metrics.watch_tasks_left(lambda: 1)
    rows = []
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.name.endswith("_created"):
            continue
        assert family.samples, family.name
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family.samples[0].labels if label != "le")
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return rows
