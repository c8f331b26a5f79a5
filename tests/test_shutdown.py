"""Servers that are told to end: what is under way is finished, written and answered, or handed on."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from testkit.servers import Server, backend
from testkit.stub_llm import Answer, Call, StubLLM, completion
from testkit.waiting import eventually
from tests.conftest import CLASSIFICATION, PROJECT

pytestmark = pytest.mark.timeout(120)
GUNICORN = ("-m", "gunicorn", "_wsgi:app")
FLASK = ("_wsgi.py",)


def request(texts: list[str], prompt: str | None = None, project: str = PROJECT) -> dict[str, Any]:
    """A batch, or with a prompt an interactive request."""
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": [prompt]}}
    return {
        "tasks": [{"id": n, "data": {"text": text}} for n, text in enumerate(texts, 1)],
        "project": project,
        "label_config": CLASSIFICATION,
        "params": {"context": {"result": [region]} if prompt else None},
    }


class Sender:
    """A request that is sent from a thread of its own."""

    def __init__(self, server: Server, body: dict[str, Any]) -> None:
        self.answer: Any = None
        self._thread = threading.Thread(target=self._send, args=(server, body))
        self._thread.start()

    def _send(self, server: Server, body: dict[str, Any]) -> None:
        with suppress(OSError):
            self.answer = server.post("/predict", body)["results"]

    def join(self) -> Any:
        """The results, or None if there were none."""
        self._thread.join(60)
        return self.answer


def slow(seconds: float) -> Callable[[Call], Answer]:
    """Answers that take so long."""
    return lambda call: Answer(body=completion("Sarcastic").body, delay=seconds)


@pytest.mark.parametrize("program", [GUNICORN, FLASK], ids=["gunicorn", "flask"])
@pytest.mark.parametrize("signals", ["SIGTERM", "SIGTERM SIGTERM", "SIGINT to all"])
def test_who_waits_is_answered(stub: StubLLM, tmp_path: Path, program: tuple[str, ...], signals: str) -> None:
    """The server ends afterwards, without a complaint, and the answer is kept.

    A second signal makes no difference, nor does Ctrl-C, which a terminal sends to all processes.
    """
    stub.answer = slow(1.5)
    output = tmp_path / "output"
    with backend(stub.url, output, program, model_dir=tmp_path) as server:
        waiting = Sender(server, request(["a text"], "a prompt"))
        eventually(lambda: stub.calls)
        if signals == "SIGINT to all":
            os.killpg(server.pid, signal.SIGINT)
        for _ in signals.split() if signals != "SIGINT to all" else ():
            server.terminate()
            time.sleep(0.3)
        assert server.exit_code(30) == 0
    [prediction] = waiting.join()
    assert prediction["result"]
    assert "Traceback" not in output.read_text()
    with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM completions").fetchone() == (1,)


def test_what_takes_too_long_is_handed_on(stub: StubLLM, tmp_path: Path) -> None:
    """The server ends within 30 s, loses nothing that has come, and the next one goes on at once.

    All that though a batch and a person wait for answers that do not come, and leases last for ten minutes.
    """
    hanging = threading.Event()

    def answer(call: Call) -> Answer:
        if "hang" in str(call.body):
            hanging.wait(60)
        return completion("Sarcastic")

    stub.answer = answer
    texts = ["hang", *(f"text {n}" for n in range(12))]
    settings = {"DEFAULT_PROMPT": "p", "MAX_CONCURRENCY": "2", "LLM_TIMEOUT": "300", "LEASE_SECONDS": "600"}
    output = tmp_path / "output"
    try:
        with backend(stub.url, output, model_dir=tmp_path, **settings) as server:
            batch = Sender(server, request(texts))
            person = Sender(server, request(["hang too"], "p"))
            eventually(lambda: len(stub.calls) == 14)
            told_at = time.monotonic()
            server.terminate()
            assert sum(map(bool, batch.join())) >= 10
            assert server.exit_code(40) == 0
            assert time.monotonic() - told_at < 30
        assert person.join() is None
        assert "Traceback" not in output.read_text()
        hanging.set()
        with backend(stub.url, model_dir=tmp_path, **settings) as server:
            started = time.monotonic()
            assert all(server.post("/predict", request(texts))["results"])
            assert time.monotonic() - started < 60
        assert len(stub.calls) == 15
    finally:
        hanging.set()


def test_all_open_batches_are_answered_at_once(stub: StubLLM, tmp_path: Path) -> None:
    """Each with one entry per task; what they lack is done by the next process, and nothing twice."""
    stub.answer = slow(0.2)
    settings = {"DEFAULT_PROMPT": "p", "MAX_CONCURRENCY": "4"}
    batches = {f"{n}.5": [f"text {n} {m}" for m in range(60)] for n in range(3)}
    with backend(stub.url, model_dir=tmp_path, **settings) as server:
        waiting = [Sender(server, request(texts, project=project)) for project, texts in batches.items()]
        eventually(lambda: len(stub.calls) > 30)
        server.terminate()
        answers = [sender.join() for sender in waiting]
        assert server.exit_code(30) == 0
    assert [len(answer) for answer in answers] == [60] * 3
    assert all(any(answer) for answer in answers)
    with backend(stub.url, model_dir=tmp_path, **settings | {"MAX_CONCURRENCY": "32"}) as server:
        for project, texts in batches.items():
            assert all(server.post("/predict", request(texts, project=project))["results"])
    assert len(stub.calls) == 180


def test_a_reload_loses_nobody(stub: StubLLM, tmp_path: Path) -> None:
    """SIGHUP: the old worker answers who waits, the new one goes on, and nothing is asked for twice."""
    stub.answer = slow(0.3)
    settings = {"DEFAULT_PROMPT": "p", "MAX_CONCURRENCY": "4"}
    texts = [f"text {n}" for n in range(60)]
    output = tmp_path / "output"
    with backend(stub.url, output, model_dir=tmp_path, **settings) as server:
        batch = Sender(server, request(texts))
        eventually(lambda: len(stub.calls) > 8)
        person = Sender(server, request(["a person's text"], "a prompt"))
        eventually(lambda: "a prompt" in str([call.body for call in stub.calls]))
        old = server.worker_pid
        os.kill(server.pid, signal.SIGHUP)
        assert person.join()
        assert len(batch.join()) == 60
        eventually(lambda: server.worker_pid != old)
        eventually(lambda: server.get("/jobs")["jobs"][0]["left"] == 0)
    assert "Traceback" not in output.read_text()
    assert len(stub.calls) == 61
