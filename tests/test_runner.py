"""Batches over HTTP: limits, faults, what goes on in the background, and what can be seen of it."""

import threading
import time
from typing import Any

import pytest

from llm_backend.asking.question import make_question
from testkit.stub_llm import Answer, Call, StubLLM, completion, failure
from testkit.waiting import eventually
from tests.conftest import TASK, Backend, MakeApp


def tasks(count: int) -> list[dict[str, Any]]:
    """So many tasks with different texts."""
    return [{"id": n, "data": {"text": f"text {n}"}} for n in range(1, count + 1)]


def predicted(answer: Any) -> list[bool]:
    """Which entries hold a prediction."""
    return [bool(entry) for entry in answer.json["results"]]


def the_job(backend: Backend) -> dict[str, Any]:
    """The one batch there is."""
    [job] = backend.client.get("/jobs").json["jobs"]
    assert isinstance(job, dict)
    return job


def test_no_more_than_max_concurrency_are_under_way(make_backend: MakeApp, stub: StubLLM) -> None:
    """And as many as that, when there is work."""
    under_way, most, lock = [0], [0], threading.Lock()

    def answer(call: Call) -> Answer:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.03)
        with lock:
            under_way[0] -= 1
        return completion("ok")

    stub.answer = answer
    backend = make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="8")
    assert all(predicted(backend.predict(tasks(60))))
    assert most[0] == 8


def test_a_rate_limit_slows_the_batch_down_and_fails_nothing(make_backend: MakeApp, stub: StubLLM) -> None:
    """All tasks are done, with hardly more calls than tasks."""
    begun = time.monotonic()
    stub.answer = lambda call: (
        failure(429, headers={"Retry-After": "1"}) if time.monotonic() < begun + 2 else completion("ok")
    )
    backend = make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="16")
    assert all(predicted(backend.predict(tasks(100))))
    assert len(stub.calls) <= 100 + 16 + 3


def test_an_interactive_request_does_not_wait_behind_a_batch(make_backend: MakeApp, stub: StubLLM) -> None:
    """All places of the batch are taken, and a person is answered."""
    release = threading.Event()

    def answer(call: Call) -> Answer:
        if "typed" not in call.body["messages"][-1]["content"]:
            release.wait(20)
        return completion("ok")

    stub.answer = answer
    backend = make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="2")
    batch = threading.Thread(target=lambda: backend.predict(tasks(10)))
    batch.start()
    try:
        eventually(lambda: len(stub.calls) >= 2)
        assert predicted(backend.predict(prompt="typed")) == [True]
    finally:
        release.set()
        batch.join()


def test_what_the_deadline_cuts_off_goes_on(make_backend: MakeApp, stub: StubLLM) -> None:
    """The next click is answered at once, without asking again."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    backend = make_backend(DEFAULT_PROMPT="p", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2")
    first = predicted(backend.predict(tasks(40)))
    assert any(first)
    assert not all(first)
    assert the_job(backend)["left"] > 0
    eventually(lambda: the_job(backend)["left"] == 0)
    assert all(predicted(backend.predict(tasks(40))))
    assert len(stub.calls) == 40


def test_a_batch_goes_on_after_a_restart(make_backend: MakeApp, stub: StubLLM) -> None:
    """With the prompt it began with, whatever the default prompt is by now."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    backend = make_backend(DEFAULT_PROMPT="first", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2")
    backend.predict(tasks(30))
    backend.services.close()
    again = make_backend(DEFAULT_PROMPT="second", MAX_CONCURRENCY="8")
    again.services.start()
    eventually(lambda: the_job(again)["left"] == 0)
    assert all("Task Directive: first" in prompt for prompt in stub.prompts)
    assert len(stub.calls) == 30


def test_a_new_prompt_ends_the_earlier_batch(make_backend: MakeApp, stub: StubLLM) -> None:
    """Its tasks are asked with the new one only."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    backend = make_backend(DEFAULT_PROMPT="old", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2")
    backend.predict(tasks(60))
    backend.predict(prompt="new")
    backend.predict(tasks(2))
    later, earlier = backend.client.get("/jobs").json["jobs"]
    assert (earlier["state"], earlier["left"] > 0) == ("stopped", True)
    asked = len(stub.calls)
    time.sleep(0.5)
    assert len(stub.calls) <= asked + 2
    assert later["done"] == 2


def test_opening_one_task_ends_no_batch(make_backend: MakeApp, stub: StubLLM) -> None:
    """A person who opens a task after another prompt was used does not stop ten thousand predictions."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.05)
    backend = make_backend(DEFAULT_PROMPT="old", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2")
    backend.predict(tasks(60))
    backend.predict(prompt="new")
    assert predicted(backend.predict([TASK])) == [True]
    assert the_job(backend)["state"] == "active"


def test_a_batch_can_be_stopped(make_backend: MakeApp, stub: StubLLM) -> None:
    """DELETE ends it; an unknown one is told so."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    backend = make_backend(DEFAULT_PROMPT="p", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2")
    backend.predict(tasks(60))
    job_id = the_job(backend)["id"]
    assert backend.client.delete(f"/jobs/{job_id}").json == {"ended": True}
    assert the_job(backend)["state"] == "stopped"
    assert backend.client.delete(f"/jobs/{job_id}").json == {"ended": False}
    assert backend.client.delete("/jobs/unknown").status_code == 404


def test_a_job_says_how_it_stands(make_backend: MakeApp) -> None:
    """Project, counts, tokens, rate."""
    backend = make_backend(DEFAULT_PROMPT="p")
    backend.predict(tasks(10))
    job = the_job(backend)
    assert (job["done"], job["failed"], job["left"]) == (10, 0, 0)
    assert job["tokens"] == 160
    assert job["per_second"] > 0
    assert job["project"] == "7.1795440473"


def test_a_browser_sees_a_page_and_a_program_json(backend: Backend) -> None:
    """The page loads nothing from elsewhere."""
    page = backend.client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.mimetype == "text/html"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    assert backend.client.get("/").json["status"] == "UP"


def test_an_unexpected_error_in_one_task_is_its_own(
    make_backend: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, and the others are done."""
    usual = make_question

    def broken(shape: Any, data: Any, *args: Any) -> Any:
        return 1 / 0 if data["text"] == "text 2" else usual(shape, data, *args)

    monkeypatch.setattr("llm_backend.asking.asking.make_question", broken)
    backend = make_backend(DEFAULT_PROMPT="p")
    assert predicted(backend.predict(tasks(3))) == [True, False, True]
    assert "ZeroDivisionError" in caplog.text


def test_a_lost_connection_in_the_middle_is_waited_for(make_backend: MakeApp, stub: StubLLM) -> None:
    """What has worked before will work again: no task fails."""
    lost = [2]

    def answer(call: Call) -> Answer:
        if len(stub.calls) > 20 and lost[0]:
            lost[0] -= 1
            return Answer(reset=True)
        return completion("ok")

    stub.answer = answer
    backend = make_backend(DEFAULT_PROMPT="p", LLM_MAX_RETRIES="0", MAX_CONCURRENCY="4")
    assert all(predicted(backend.predict(tasks(40))))


def test_no_connection_from_the_start_says_so(make_backend: MakeApp, stub: StubLLM) -> None:
    """The batch stops at the first few, and the status line names the reason."""
    stub.says(Answer(reset=True))
    backend = make_backend(DEFAULT_PROMPT="p", LLM_MAX_RETRIES="0", MAX_CONCURRENCY="4")
    answer = backend.predict(tasks(200))
    assert answer.status_code == 502
    assert "broke off before" in answer.status
    assert len(stub.calls) <= 8
    stub.says("ok")
    assert all(predicted(backend.predict(tasks(200))))


def test_a_reply_that_no_database_takes_is_stored_all_the_same(make_backend: MakeApp, stub: StubLLM) -> None:
    """Half a surrogate pair or a NUL from the model costs one character, not the batch."""
    stub.answer = lambda call: (
        failure(400, "bad \ud800 \0 text") if "text 2" in str(call.body) else completion("ok \ud800 \0")
    )
    backend = make_backend(DEFAULT_PROMPT="p")
    for _ in range(2):
        assert predicted(backend.predict(tasks(3))) == [True, False, True]


def test_a_429_for_a_later_reply_keeps_the_earlier(make_backend: MakeApp, stub: StubLLM) -> None:
    """All three replies come in the end, and none is paid for twice."""
    limited = [True]

    def answer(call: Call) -> Answer:
        if len(stub.calls) == 2 and limited.pop():
            limited.append(False)
            return failure(429, headers={"Retry-After": "1"})
        return completion("ok")

    stub.answer = answer
    backend = make_backend(
        DEFAULT_PROMPT="p", NUM_RESPONSES="3", OPENAI_PROVIDER="ollama", OLLAMA_ENDPOINT=stub.url,
        MAX_CONCURRENCY="1",
    )  # fmt: skip
    for entry in backend.predict(tasks(2)).json["results"]:
        assert entry["result"][1]["value"]["text"] == ["ok"] * 3
    assert len(stub.calls) == 7


def test_a_database_that_is_gone_for_a_moment_fails_no_task(
    make_backend: MakeApp, stub: StubLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tasks wait for it."""
    from llm_backend.errors import StorageError
    from llm_backend.storage import StoredCompletions

    usual, failures = StoredCompletions.get, [5]

    def get(self: StoredCompletions, keys: Any, **options: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise StorageError("gone")
        return usual(self, keys, **options)

    monkeypatch.setattr(StoredCompletions, "get", get)
    assert all(predicted(make_backend(DEFAULT_PROMPT="p").predict(tasks(20))))


def test_a_corrected_key_takes_effect_at_the_next_click(make_backend: MakeApp, stub: StubLLM) -> None:
    """A batch that failed for its key is tried with the new one."""
    stub.answer = lambda call: (
        completion("ok") if "right" in call.headers["authorization"] else failure(401, "wrong key")
    )
    backend = make_backend(DEFAULT_PROMPT="p")
    assert backend.setup(extra_params={"api_key": "sk-wrong"}).status_code == 200
    assert backend.predict(tasks(3)).status_code == 502
    assert backend.setup(extra_params={"api_key": "sk-right"}).status_code == 200
    assert all(predicted(backend.predict(tasks(3))))


def test_a_batch_keeps_its_parameters_over_a_restart(make_backend: MakeApp, stub: StubLLM) -> None:
    """Another model in the environment is for the next batch."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    backend = make_backend(DEFAULT_PROMPT="p", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2", OPENAI_MODEL="old")
    backend.predict(tasks(30))
    backend.services.close()
    again = make_backend(DEFAULT_PROMPT="p", OPENAI_MODEL="new", TEMPERATURE="0.1")
    again.services.start()
    eventually(lambda: the_job(again)["left"] == 0)
    assert {(call.body["model"], call.body["temperature"]) for call in stub.calls} == {("old", 0.7)}


def test_a_batch_of_a_version_without_shapes_goes_on(make_backend: MakeApp, stub: StubLLM) -> None:
    """Its shape is made of its labeling config, extra params and prompt."""
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    backend = make_backend(DEFAULT_PROMPT="first", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2")
    backend.predict(tasks(30))
    backend.services.close()
    with backend.services.database.writing() as connection:
        connection.exec_driver_sql("UPDATE jobs SET shape = NULL")
    again = make_backend(DEFAULT_PROMPT="second")
    again.services.start()
    eventually(lambda: the_job(again)["left"] == 0)
    assert the_job(again)["failed"] == 0
    assert len(stub.calls) == 30
    assert all("first" in prompt for prompt in stub.prompts)


def test_retry_after_zero_is_no_storm(make_backend: MakeApp, stub: StubLLM) -> None:
    """The limiter's own pauses hold."""
    begun = time.monotonic()
    stub.answer = lambda call: (
        failure(429, headers={"Retry-After": "0"}) if time.monotonic() < begun + 2 else completion("ok")
    )
    assert all(predicted(make_backend(DEFAULT_PROMPT="p", MAX_CONCURRENCY="8").predict(tasks(30))))
    assert len(stub.calls) <= 30 + 8 + 4


def test_no_tasks_are_no_batch(make_backend: MakeApp) -> None:
    """An empty request is answered with an empty list, and ends nothing."""
    backend = make_backend(DEFAULT_PROMPT="p")
    assert backend.predict([]).json == {"results": []}
    assert backend.client.get("/jobs").json == {"jobs": []}


def test_a_batch_that_only_waits_is_answered_with_empty_lists(make_backend: MakeApp, stub: StubLLM) -> None:
    """One entry per task, always: the tasks go on in the background."""
    stub.says(failure(429, headers={"Retry-After": "60"}))
    backend = make_backend(DEFAULT_PROMPT="p", PREDICT_TIMEOUT="1")
    assert predicted(backend.predict(tasks(3))) == [False] * 3
    assert the_job(backend)["left"] == 3


def test_an_opened_task_waits_for_a_rate_limit(make_backend: MakeApp, stub: StubLLM) -> None:
    """A single task is no batch: it is tried again as an interactive one is."""
    stub.says(failure(429, headers={"Retry-After": "1"}), "ok")
    assert predicted(make_backend(DEFAULT_PROMPT="p").predict([TASK])) == [True]
