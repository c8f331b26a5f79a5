"""Compares an interactive `/predict` over HTTP with a call of the bare openai client to the same stub."""

import http.client
import itertools
import json
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from openai import OpenAI

from testkit.servers import ROOT, backend, stub_llm

_ROUNDS = 300
_WARM_UP = 30


def run() -> None:
    """Prints medians in milliseconds, their ratio, start time and memory."""
    config = (ROOT / "examples/text-classification/label_config.xml").read_text()
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": ["Is it sarcastic?"]}}
    numbers = itertools.count()

    def body() -> str:
        """A request body with another text each time: equal requests within 3 seconds share an answer."""
        return json.dumps(
            {
                "tasks": [{"id": 1, "data": {"text": f"I love it when my computer crashes {next(numbers)}"}}],
                "project": "1.1795440473",
                "label_config": config,
                "params": {"login": None, "password": None, "context": {"result": [region]}},
            }
        )

    with stub_llm() as stub_url, backend(stub_url) as server:
        idle = server.worker_megabytes()
        client = OpenAI(api_key="sk-benchmark", base_url=stub_url, max_retries=0)
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)

        def bare() -> None:
            message = "Source Text: I love it when my computer crashes\n\nTask Directive: Is it sarcastic?"
            client.chat.completions.create(
                model="gpt-3.5-turbo", messages=[{"role": "user", "content": message}], temperature=0.7
            )

        def predict() -> None:
            connection.request("POST", "/predict", body(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()

        bare_ms, predict_ms = _medians(bare, predict)
        print(f"bare openai call        {bare_ms:7.2f} ms")
        print(
            f"interactive /predict    {predict_ms:7.2f} ms   {predict_ms / bare_ms:.2f} times the bare call"
        )
        print(f"start to /health        {server.seconds_to_start:7.2f} s")
        print(f"memory of one worker    {idle:7.0f} MB idle, {server.worker_megabytes():.0f} MB afterwards")


def _medians(*functions: Callable[[], None]) -> list[float]:
    """The median time of each function, in milliseconds. They take turns, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for round_number in range(_WARM_UP + _ROUNDS):
        for function, taken in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            if round_number >= _WARM_UP:
                taken.append((time.perf_counter() - started) * 1000)
    return [statistics.median(taken) for taken in times]
