"""What is not done in time for the response reaches Label Studio through its API."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.real_label_studio import LabelStudio
from testkit.servers import Server, backend
from testkit.stub_llm import Answer, Call, StubLLM, completion
from tests.e2e.conftest import ROOT

CONFIG = (ROOT / "examples/text-classification/label_config.xml").read_text()
TASKS = 60


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Until the background has done it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)


def only_job(server: Server) -> dict[str, object]:
    """The one batch there is."""
    [job] = server.get("/jobs")["jobs"]
    return dict(job)


@pytest.mark.parametrize("kind", ["legacy token", "personal access token"])
def test_one_click_labels_all_tasks(
    label_studio: LabelStudio, stub: StubLLM, tmp_path: Path, kind: str
) -> None:
    """One prediction for each task, all of the same version, whichever way they came."""
    stub.answer = lambda call: Answer(body=completion("Sarcastic").body, delay=0.2)
    token = label_studio.token if kind == "legacy token" else label_studio.personal_access_token()
    project = label_studio.create_project_of(
        kind, CONFIG, [{"data": {"text": f"text {number}"}} for number in range(TASKS)]
    )
    settings = {
        "DEFAULT_PROMPT": "p",
        "MAX_CONCURRENCY": "2",
        "PREDICT_TIMEOUT": "3",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": token,
    }
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        assert label_studio.connect(project, server.url).ok
        label_studio.retrieve_predictions(project)
        in_time = len(label_studio.predictions(project))
        assert 0 < in_time < TASKS
        wait_for(lambda: only_job(server)["state"] == "done")
        assert only_job(server)["failed"] == 0
        stored = label_studio.predictions(project)
        assert sorted(prediction["task"] for prediction in stored) == [
            task["id"] for task in label_studio.tasks(project)
        ]
        assert {prediction["model_version"] for prediction in stored} == {only_job(server)["model_version"]}
        label_studio.retrieve_predictions(project)
        assert len(label_studio.predictions(project)) == TASKS
    assert len(stub.calls) == TASKS


def test_a_task_that_is_gone_does_not_hold_up_the_others(
    label_studio: LabelStudio, stub: StubLLM, tmp_path: Path
) -> None:
    """Label Studio refuses a whole delivery for one unknown task; the others arrive all the same."""
    deleted = threading.Event()

    def answer(call: Call) -> Answer:
        if "text 29." in call.body["messages"][-1]["content"]:
            deleted.wait(60)
        return completion("Sarcastic")

    stub.answer = answer
    project = label_studio.create_project_of(
        "gone", CONFIG, [{"data": {"text": f"text {number}."}} for number in range(30)]
    )
    settings = {
        "DEFAULT_PROMPT": "p",
        "MAX_CONCURRENCY": "2",
        "PREDICT_TIMEOUT": "2",
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.token,
    }
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        assert label_studio.connect(project, server.url).ok
        label_studio.retrieve_predictions(project)
        last = label_studio.tasks(project)[-1]["id"]
        label_studio.delete_task(last)
        deleted.set()
        wait_for(lambda: only_job(server)["state"] == "done")
        assert only_job(server)["failed"] == 1
        assert len(label_studio.predictions(project)) == 29
