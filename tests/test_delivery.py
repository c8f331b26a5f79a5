"""What is not done in time reaches Label Studio through its API, once, and only the right one."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_backend.batches import delivery, housekeeping
from testkit.stub_label_studio import LEGACY_TOKEN, StubLabelStudio, running_label_studio
from testkit.stub_llm import Answer, Call, StubLLM, completion
from tests.conftest import CLASSIFICATION, Backend, MakeApp

FIRST = "1.1795542053"  # the first project of the stand-in
Late = Callable[..., Backend]
LOOK_UP = ("GET", "/api/projects/1")
IMPORT = "/api/projects/1/import/predictions"


@pytest.fixture
def label_studio() -> Iterator[StubLabelStudio]:
    """A Label Studio with a project of six tasks."""
    with running_label_studio() as stub:
        stub.add(CLASSIFICATION, "http://127.0.0.1:1")
        stub.tasks[1] = [{"id": number, "data": {"text": f"text {number}"}} for number in range(1, 7)]
        yield stub


@pytest.fixture
def go_on(stub: StubLLM) -> Iterator[threading.Event]:
    """Until it is set, the LLM does not answer."""
    event = threading.Event()

    def answer(call: Call) -> Answer:
        event.wait(50)
        return completion("Sarcastic")

    stub.answer = answer
    yield event
    event.set()


@pytest.fixture
def late(go_on: threading.Event, label_studio: StubLabelStudio, make_backend: MakeApp) -> Late:
    """Asks for a batch of the six tasks, which the LLM answers after the response has left."""

    def ask(project: str = FIRST, *, hold: bool = False, **variables: str) -> Backend:
        defaults = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": LEGACY_TOKEN}
        more = {"PREDICT_TIMEOUT": "1", "DEFAULT_PROMPT": "p", "LLM_TIMEOUT": "60"}
        backend = make_backend(**(defaults | more | variables))
        answered = backend.predict(label_studio.tasks[1], project=project).get_json()
        assert answered["results"] == [[]] * 6
        backend.services.start()
        if not hold:
            go_on.set()
        return backend

    return ask


def eventually(condition: Callable[[], object]) -> None:
    """Waits for what happens in other threads."""
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def only_job(backend: Backend) -> dict[str, Any]:
    """The one batch there is."""
    [job] = backend.client.get("/jobs").get_json()["jobs"]
    return dict(job)


def ended(backend: Backend) -> None:
    """Waits until the batch has ended."""
    eventually(lambda: only_job(backend)["state"] == "done")


def test_what_is_late_is_delivered_once(late: Late, label_studio: StubLabelStudio) -> None:
    """Each task gets one prediction with the version of the batch; what has one already is left alone."""
    has_one = {"task": 3, "model_version": "other", "result": []}
    label_studio.predictions.append(has_one)
    backend = late()
    ended(backend)
    new = [prediction for prediction in label_studio.predictions if prediction is not has_one]
    assert sorted(prediction["task"] for prediction in new) == [1, 2, 3, 4, 5, 6]
    assert {prediction["model_version"] for prediction in new} == {only_job(backend)["model_version"]}
    assert all(prediction["result"] for prediction in new)


def test_one_unknown_task_does_not_hold_up_the_others(late: Late, label_studio: StubLabelStudio) -> None:
    """Label Studio refuses the whole call; the call is halved until only that task is left."""
    asked = list(label_studio.tasks[1])
    backend = late()
    label_studio.tasks[1] = [task for task in asked if task["id"] != 4]
    ended(backend)
    assert sorted(prediction["task"] for prediction in label_studio.predictions) == [1, 2, 3, 5, 6]
    assert only_job(backend)["failed"] == 1


@pytest.mark.parametrize("project", ["1.5", "2.1795542053", "1", "no key"])
def test_another_label_studios_project_gets_nothing(
    late: Late,
    label_studio: StubLabelStudio,
    project: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The batch ends all the same; its answers are kept for the next request."""
    backend = late(project)
    ended(backend)
    assert label_studio.predictions == []
    assert [path for method, path in label_studio.asked if method == "POST"] == []


def test_without_a_token_nothing_is_asked(late: Late, label_studio: StubLabelStudio) -> None:
    """Deliveries need both settings."""
    ended(late(LABEL_STUDIO_API_KEY=""))
    assert label_studio.asked == []


def test_a_project_that_is_not_shown_is_looked_up_again(
    late: Late, go_on: threading.Event, label_studio: StubLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some minutes: somebody may have let the token's owner see it by then."""
    monkeypatch.setattr(delivery, "_LOOK_AGAIN_SECONDS", 0.1)
    label_studio.failures["/api/projects/1"] = 403
    backend = late(hold=True)
    eventually(lambda: LOOK_UP in label_studio.asked)
    del label_studio.failures["/api/projects/1"]
    label_studio.asked.clear()
    eventually(lambda: LOOK_UP in label_studio.asked)
    go_on.set()
    ended(backend)
    assert len(label_studio.predictions) == 6


def test_a_project_is_looked_up_once_in_some_minutes(
    late: Late, go_on: threading.Event, label_studio: StubLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in each round, of which there is one every two seconds."""
    monkeypatch.setattr(housekeeping, "_ROUND_SECONDS", 0.05)
    label_studio.failures["/api/projects/1"] = 404
    backend = late(hold=True)
    eventually(lambda: LOOK_UP in label_studio.asked)
    time.sleep(1)
    assert label_studio.asked.count(LOOK_UP) == 1
    go_on.set()
    ended(backend)


def test_a_failing_label_studio_is_tried_again(
    late: Late,
    label_studio: StubLabelStudio,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says what is wrong and what to do; nothing is lost, and nothing comes twice."""
    monkeypatch.setattr(housekeeping, "_RETRY_SECONDS", 0.1)
    label_studio.refusal = "Token is blacklisted"
    backend = late()
    eventually(lambda: "Delivery for project" in caplog.text)
    assert "LABEL_STUDIO_API_KEY has been revoked: make a personal access token" in caplog.text
    label_studio.refusal = ""
    label_studio.failures[IMPORT] = 500
    eventually(lambda: "answers with status 500" in caplog.text)
    del label_studio.failures[IMPORT]
    ended(backend)
    assert sorted(prediction["task"] for prediction in label_studio.predictions) == [1, 2, 3, 4, 5, 6]
