"""Retrieve Predictions: thousands of tasks in one request, over HTTP, against a stub LLM."""

import json
import statistics
import threading
import time
from dataclasses import asdict
from typing import Any

from openai import OpenAI

from llm_backend.asking.question import make_question
from llm_backend.asking.shape import Shapes
from llm_backend.services import make_services
from llm_backend.settings import load_settings
from testkit.servers import ROOT, Server, backend, stub_llm

_CONFIG = (ROOT / "examples/text-classification/label_config.xml").read_text()
_PROJECT = "1.1795440473"


def run() -> None:
    """Prints one line for each figure, with its bar."""
    _throughput()
    _cost_of_a_task()
    _interactive_beside_a_batch()
    _faults()
    _rate_limit()


def _request(count: int, prompt: str = "Is it sarcastic?", first: int = 1) -> dict[str, Any]:
    """The body of a batch request with `count` tasks."""
    texts = (f"I love it when my computer crashes, for the time {n}" for n in range(first, first + count))
    return {
        "tasks": [{"id": first + n, "data": {"text": text}} for n, text in enumerate(texts)],
        "project": _PROJECT,
        "label_config": _CONFIG,
        "params": {"login": None, "password": None, "context": None},
    }


def _interactive(number: int) -> dict[str, Any]:
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": [f"Prompt {number}"]}}
    body = _request(1, first=1_000_000 + number)
    return body | {"project": "2.1795440473", "params": {"context": {"result": [region]}}}


def _predicted(answer: Any) -> int:
    return sum(bool(entry) for entry in answer["results"])


def _calls(stub_url: str) -> int:
    """How many calls the stub has counted."""
    client = OpenAI(api_key="k", base_url=stub_url, max_retries=0)
    answer = client.chat.completions.create(model="count", messages=[{"role": "user", "content": ""}])
    return int(answer.choices[0].message.content or 0)


def _throughput() -> None:
    with (
        stub_llm(1.0) as stub,
        backend(stub, MAX_CONCURRENCY="64", DEFAULT_PROMPT="Is it sarcastic?") as server,
    ):
        started = time.monotonic()
        predicted = _predicted(server.post("/predict", _request(1000)))
        seconds = time.monotonic() - started
    print(
        f"1,000 tasks, 1 s each, MAX_CONCURRENCY=64: {seconds:.1f} s for {predicted} predictions, "
        f"{seconds / (1000 / 64):.2f} x 1000/64 s (bar 1.2)"
    )


def _cost_of_a_task() -> None:
    """Compares the worker's CPU time for a task with the bare client's for a call; measures memory over idle.

    The bare client asks for the same, one call after the other: there is no cheaper way. Both take turns, so
    that noise hits both alike.
    """
    rounds, count = 7, 500
    bare_ms, task_ms = [], []
    with stub_llm() as stub, backend(stub, DEFAULT_PROMPT="Is it sarcastic?") as server:
        server.post("/predict", _request(200, first=100_000))
        idle = server.worker_megabytes()
        bare = _Bare(stub)
        for number in range(rounds):
            calls = bare.requests(count)
            started = time.process_time()
            for call in calls:
                bare.ask(call)
            bare_ms.append((time.process_time() - started) / count * 1000)
            request = _request(count, first=1 + number * count)
            cpu = server.worker_cpu_seconds()
            server.post("/predict", request)
            task_ms.append((server.worker_cpu_seconds() - cpu) / count * 1000)
        ratio = statistics.median(task / one for task, one in zip(task_ms, bare_ms, strict=True))
        request = _request(5000, first=200_000)
        peak = _Peak(server)
        predicted = _predicted(server.post("/predict", request))
        over_idle = peak.stop() - idle
    print(
        f"CPU of one task of a batch: {statistics.median(task_ms):.2f} ms, {ratio:.2f} x "
        f"the bare client call's {statistics.median(bare_ms):.2f} ms (bar 2)"
    )
    allowed = 40 + 10 * len(json.dumps(request)) / 1e6
    print(f"memory over idle for {predicted} tasks in one request: {over_idle:.0f} MB (bar {allowed:.0f})")


class _Bare:
    """The bare client. It sends exactly what the server sends for a task."""

    def __init__(self, stub: str) -> None:
        settings = load_settings({"OPENAI_API_KEY": "k"}, env_file=None)
        self._client = OpenAI(api_key="k", base_url=stub, max_retries=0)
        self._shape = Shapes(settings).shape(_CONFIG, {}, "Is it sarcastic?")
        self._reader = make_services(settings).reader

    def requests(self, count: int) -> list[dict[str, Any]]:
        """The arguments of `count` calls."""
        texts = (f"I love it when my computer crashes, for the time {number}" for number in range(count))
        asked = (make_question(self._shape, {"text": text}, self._reader, None).request for text in texts)
        return [
            {
                "model": request.model,
                "messages": [asdict(message) for message in request.messages],
                "temperature": request.temperature,
                "response_format": request.response_format,
                "logprobs": request.logprobs,
            }
            for request in asked
        ]

    def ask(self, request: dict[str, Any]) -> None:
        """Makes one call."""
        self._client.chat.completions.create(**request)


class _Peak:
    """Watches the worker's resident memory and keeps the largest value, in megabytes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._most = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self._most = max(self._most, self._server.worker_megabytes())

    def stop(self) -> float:
        """Ends the watch and gives the largest value."""
        self._stop.set()
        self._thread.join()
        return self._most


def _interactive_beside_a_batch() -> None:
    with stub_llm(0.2) as stub, backend(stub, DEFAULT_PROMPT="Is it sarcastic?") as server:
        idle = _latencies(server, range(20))
        batch = threading.Thread(target=lambda: server.post("/predict", _request(2000)))
        batch.start()
        time.sleep(1)
        busy = _latencies(server, range(20, 40))
        still_going = batch.is_alive()
        batch.join()
    print(
        f"interactive beside a batch of 2,000 at 0.2 s: {busy * 1000:.0f} ms, {busy / idle:.2f} x the idle "
        f"{idle * 1000:.0f} ms (bar 1.5){'' if still_going else '; the batch had ended before'}"
    )


def _latencies(server: Server, numbers: range) -> float:
    """The median seconds of an interactive request."""
    taken = []
    for number in numbers:
        started = time.monotonic()
        server.post("/predict", _interactive(number))
        taken.append(time.monotonic() - started)
    return statistics.median(taken)


def _faults() -> None:
    count = 500
    with (
        stub_llm(0.2, "some") as stub,
        backend(stub, DEFAULT_PROMPT="Is it?", LLM_TIMEOUT="10", PREDICT_TIMEOUT="60") as server,
    ):
        started = time.monotonic()
        entries = server.post("/predict", _request(count))["results"]
        seconds = time.monotonic() - started
    wrong = sum(bool(entry) != bool(number % 10) for number, entry in enumerate(entries, start=1))
    print(
        f"500 tasks, every 10th fails, every 50th hangs: {len(entries)} entries, {wrong} of them wrong, "
        f"{seconds:.1f} s (bar 500, 0, 60 s)"
    )


def _rate_limit() -> None:
    with stub_llm(0.1, "limit") as stub, backend(stub, DEFAULT_PROMPT="Is it sarcastic?") as server:
        started = time.monotonic()
        predicted = _predicted(server.post("/predict", _request(1000)))
        seconds = time.monotonic() - started
        calls = _calls(stub)
    print(
        f"1,000 tasks, 429 with Retry-After 2 for 10 s: {predicted} predictions with {calls} calls, "
        f"{seconds:.1f} s (bar 1,000 with 1,100)"
    )
