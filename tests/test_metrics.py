"""What `/metrics` counts, read back with Prometheus' own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llm_backend.errors import RateLimitedError
from llm_backend.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """All samples by their name and their labels' values in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_endpoint_and_status() -> None:
    """Every answered request counts once, for its endpoint and status."""
    metrics = Metrics()
    for status in (200, 200, 422):
        metrics.request("predict", status)
    found = samples(metrics)
    assert found["llm_backend_requests_total", "predict", "200"] == 2
    assert found["llm_backend_requests_total", "predict", "422"] == 1


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
