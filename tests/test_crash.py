"""Server processes that are killed: what has been paid for is not paid for again."""

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from testkit.servers import Server, backend
from testkit.stub_llm import Answer, Call, StubLLM, completion
from tests.conftest import CLASSIFICATION, PROJECT

pytestmark = pytest.mark.timeout(120)
TASKS = 300
DELAY = 0.15
MARGIN = 0.3  # seconds in which an answer that the stub has sent may not have been written yet


def request(first: int = 1, count: int = TASKS) -> dict[str, Any]:
    """A batch of so many tasks."""
    return {
        "tasks": [{"id": n, "data": {"text": f"text {n}."}} for n in range(first, first + count)],
        "project": PROJECT,
        "label_config": CLASSIFICATION,
        "params": {"context": None},
    }


class Watch:
    """Which text was asked for when, and answered when."""

    def __init__(self, stub: StubLLM) -> None:
        self.asked: list[tuple[float, str]] = []
        self.answered: dict[str, float] = {}
        stub.answer = self._answer

    def _answer(self, call: Call) -> Answer:
        text = call.body["messages"][-1]["content"].partition(".")[0]
        self.asked.append((time.monotonic(), text))
        time.sleep(DELAY)
        self.answered[text] = time.monotonic()
        return completion("Sarcastic")

    def asked_again_after(self, moment: float) -> set[str]:
        """Texts that had been answered well before the moment and were asked for after it."""
        paid = {text for text, at in self.answered.items() if at < moment - MARGIN}
        return {text for at, text in self.asked if at > moment and text in paid}


def post(server: Server, body: dict[str, Any], answers: list[Any]) -> threading.Thread:
    """Sends the batch from a thread of its own."""

    def send() -> None:
        with suppress(OSError):  # the server is killed
            answers.append(server.post("/predict", body))

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def wait_for(watch: Watch, count: int) -> None:
    """Until so many have been answered."""
    deadline = time.monotonic() + 30
    while len(watch.answered) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_server_asks_for_nothing_twice(stub: StubLLM, tmp_path: Path) -> None:
    """After kill -9 and a restart the same request is answered whole, and nothing is paid for twice."""
    watch = Watch(stub)
    settings = {"DEFAULT_PROMPT": "p", "MAX_CONCURRENCY": "16", "LEASE_SECONDS": "2"}
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        sender = post(server, request(), [])
        wait_for(watch, TASKS // 3)
        killed_at = time.monotonic()
        server.kill()
        sender.join()
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        results = server.post("/predict", request())["results"]
    assert all(results)
    assert len(results) == TASKS
    assert watch.asked_again_after(killed_at) == set()
    assert len(watch.asked) <= TASKS + 32


def test_a_server_that_is_told_to_end_loses_nothing(stub: StubLLM, tmp_path: Path) -> None:
    """SIGTERM in the middle: the request is answered with what is done, and nothing is paid for twice."""
    watch = Watch(stub)
    settings = {"DEFAULT_PROMPT": "p", "MAX_CONCURRENCY": "8"}
    answers: list[Any] = []
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        sender = post(server, request(), answers)
        wait_for(watch, TASKS // 4)
        server.terminate()
        sender.join()
    [answer] = answers
    assert len(answer["results"]) == TASKS
    assert TASKS // 4 - 8 <= sum(map(bool, answer["results"])) < TASKS
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        assert all(server.post("/predict", request())["results"])
    assert len(watch.asked) == TASKS


def test_two_replicas_share_the_work_and_one_may_die(
    stub: StubLLM, postgresql_url: str, tmp_path: Path
) -> None:
    """On one PostgreSQL: every task has one prediction; what the dead one had under way is asked again."""
    watch = Watch(stub)
    settings = {
        "DEFAULT_PROMPT": "p",
        "MAX_CONCURRENCY": "8",
        "LEASE_SECONDS": "2",
        "DATABASE_URL": postgresql_url,
    }
    answers: list[Any] = []
    with (
        backend(stub.url, model_dir=tmp_path / "a", **settings) as alive,
        backend(stub.url, model_dir=tmp_path / "b", **settings) as dying,
    ):
        sender = post(alive, request(), answers)
        wait_for(watch, TASKS // 3)
        killed_at = time.monotonic()
        dying.kill()
        sender.join()
    [answer] = answers
    assert all(answer["results"])
    assert len(answer["results"]) == TASKS
    assert watch.asked_again_after(killed_at) == set()
    twice = [text for text, count in Counter(text for _, text in watch.asked).items() if count > 1]
    assert len(twice) <= 16  # what was under way, and what had just come and was not written yet
    assert len(watch.answered) == TASKS
