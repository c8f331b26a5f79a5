"""Completions, paid for once."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llm_backend.asking.question import Question, make_question
from llm_backend.storage import Database, Ledger, StoredCompletions
from llm_backend.storage.completions import KeyedReply
from llm_backend.values import Json, Reply
from testkit.stub_llm import Answer, StubLLM, completion
from tests.conftest import CLASSIFICATION, TASK, Backend, MakeApp


def question(backend: Backend, data: Json | None = None, prompt: str = "p", **extra: Any) -> Question:
    """A question of the classification project."""
    shape = backend.services.shapes.shape(CLASSIFICATION, extra, prompt)
    return make_question(shape, data or {"text": "t"}, backend.services.reader, None)


def eventually(condition: Callable[[], object]) -> None:
    """Waits for what the recorder's thread does."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def stored(backend: Backend) -> StoredCompletions:
    """The completions in the backend's database."""
    return StoredCompletions(backend.services.database)


def test_a_batch_does_not_ask_again_for_what_a_person_was_told(backend: Backend, stub: StubLLM) -> None:
    """The same task with the same prompt is answered from the database, also after a restart."""
    backend.predict(prompt="p")
    eventually(lambda: Ledger(backend.services.database).payments())  # written with the reply
    assert len(backend.predict([TASK, TASK | {"id": 2}]).json["results"]) == 2
    assert len(stub.calls) == 1


def test_a_person_gets_a_new_answer(backend: Backend, stub: StubLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shift+Enter again asks again, once the 3 seconds are over."""
    backend.predict(prompt="p")
    monkeypatch.setattr("llm_backend.asking.completions._SAME_REQUEST_SECONDS", -1.0)
    backend.predict(prompt="p")
    assert len(stub.calls) == 2


def test_the_same_request_within_three_seconds_shares_one_answer(backend: Backend, stub: StubLLM) -> None:
    """One after the other, from another process too, and at the same time."""
    stub.answer = lambda call: Answer(body=completion(f"answer {len(stub.calls)}").body, delay=0.2)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: backend.predict(prompt="p").json, range(4)))
    texts = {answer["results"][0]["result"][1]["value"]["text"][0] for answer in answers}
    assert texts == {"answer 1"}
    keys = question(backend, {"text": "I love it when my computer crashes"}).keys
    eventually(lambda: stored(backend).get(keys))
    assert backend.predict(prompt="p").json["results"][0]["result"][1]["value"]["text"] == ["answer 1"]
    assert len(stub.calls) == 1


def test_only_missing_replies_are_asked_for(make_backend: MakeApp, stub: StubLLM) -> None:
    """Of three replies two are there."""
    backend = make_backend(NUM_RESPONSES="3", DEFAULT_PROMPT="p")
    keys = question(backend).keys
    with backend.services.database.writing() as connection:
        stored(backend).put(
            connection, [KeyedReply(keys[0], Reply("one")), KeyedReply(keys[2], Reply("three"))]
        )
    stub.says("two")
    [prediction] = backend.predict([{"id": 1, "data": {"text": "t"}}]).json["results"]
    assert prediction["result"][1]["value"]["text"] == ["one", "two", "three"]
    assert [call.body.get("n") for call in stub.calls] == [None]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "m2"},
        {"temperature": 0.1},
        {"prompt_template": "{prompt}!{text}"},
        {"base_url": "https://h/v1", "api_key": "k"},
    ],
)
def test_keys_differ_with_all_that_shapes_the_answer(backend: Backend, other: dict[str, Any]) -> None:
    """Model, parameters, template, endpoint; and the text and the number of the reply."""
    assert question(backend).keys == question(backend).keys
    assert question(backend).keys != question(backend, **other).keys
    assert question(backend).keys != question(backend, {"text": "u"}).keys


def test_a_reply_comes_back_as_it_was(backend: Backend) -> None:
    """With its log probabilities; a newer one replaces it."""
    reply = Reply("é\n情感", (("é", -0.5), ("\n", -1.0)))
    for text in (reply, Reply("newer")):
        with backend.services.database.writing() as connection:
            stored(backend).put(connection, [KeyedReply("k" * 64, text)])
        assert stored(backend).get(["k" * 64, "x" * 64]) == {"k" * 64: text}


def test_old_and_excess_completions_are_dropped(backend: Backend) -> None:
    """By age, and the oldest by number."""
    completions = stored(backend)
    keys = [f"{number:064d}" for number in range(5)]
    for key in keys:
        with backend.services.database.writing() as connection:
            completions.put(connection, [KeyedReply(key, Reply("r"))])
        time.sleep(0.002)
    assert completions.prune(max_age=1000, max_rows=2) == 3
    assert sorted(completions.get(keys)) == keys[3:]
    assert completions.prune(max_age=-1, max_rows=100) == 2


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_completion_from_the_future_is_not_of_late(tmp_path: Path, jump: float) -> None:
    """The clock was set: who asks again gets a new answer, not one of two hours ago."""
    wall = [1_000_000.0]
    database = Database(None, tmp_path, clock=lambda: wall[0])
    completions = StoredCompletions(database)
    with database.writing() as connection:
        completions.put(connection, [KeyedReply("k" * 64, Reply("r"))])
    assert completions.get(["k" * 64], max_age=3)
    wall[0] += jump
    assert completions.get(["k" * 64], max_age=3) == {}
    assert completions.get(["k" * 64])
    database.close()


def test_a_clock_that_is_far_off_makes_nothing_old(tmp_path: Path) -> None:
    """Ten years ahead, paid completions are kept; when it is right again, pruning goes on."""
    wall = [1_000_000.0]
    database = Database(None, tmp_path, clock=lambda: wall[0], steady=lambda: 0.0)
    completions = StoredCompletions(database)
    with database.writing() as connection:
        completions.put(connection, [KeyedReply("k" * 64, Reply("r"))])
    wall[0] += 86400.0 * 3650
    assert completions.prune(max_age=86400.0, max_rows=10) == 0
    wall[0] = 1_000_000.0 + 4000
    assert completions.prune(max_age=3600.0, max_rows=10) == 1
    database.close()
