"""What `/health` tells whoever runs the server."""

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_backend.errors import BackendError, PicturesRefusedError, ProviderDownError
from llm_backend.operations import provider_status
from llm_backend.operations.background_probe import BackgroundProbe
from llm_backend.operations.provider_status import ProviderStatus
from llm_backend.operations.worker_folder import SharedFolder
from llm_backend.values import Endpoint
from testkit.stub_llm import StubLLM, failure
from tests.conftest import CLASSIFICATION, Backend, MakeApp
from tests.test_api import AUTH, credentials

OWN = Endpoint("openai", "http://own/v1", "key")


def health(backend: Backend) -> Any:
    """The body of `/health`, which is UP in any case."""
    answer = backend.client.get("/health")
    assert answer.status_code == 200
    assert answer.json["status"] == "UP"
    return answer.json


def health_with(backend: Backend, holds: Callable[[Any], bool]) -> Any:
    """The first body that is as expected; what is known of the state is a second old at most."""
    deadline = time.monotonic() + 20
    while not holds(found := health(backend)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_a_new_server_has_no_problems(backend: Backend) -> None:
    """Nothing is missing, nothing is wrong, and nothing has been asked yet."""
    found = health(backend)
    assert found["missing"] == []
    assert found["problems"] == []
    assert found["last_completion"] is None


def test_the_last_completion(backend: Backend, stub: StubLLM) -> None:
    """A failure is there with what to do, a success after it, and each says when."""
    stub.says(failure(401), "Sarcastic")
    backend.predict(prompt="x")
    failed = health(backend)["last_completion"]
    assert failed["succeeded"] is False
    assert failed["code"] == "provider_authentication"
    assert failed["reason"] == "OpenAI refused the API key (401): check OPENAI_API_KEY"
    backend.predict(prompt="x")
    succeeded = health(backend)["last_completion"]
    assert succeeded.keys() == {"succeeded", "at"}
    assert succeeded["succeeded"] is True
    assert datetime.fromisoformat(failed["at"]) <= datetime.fromisoformat(succeeded["at"])
    assert datetime.fromisoformat(succeeded["at"]).utcoffset() == timedelta(0)


def test_what_a_project_chooses_is_its_own_affair(backend: Backend, stub: StubLLM) -> None:
    """Another model, key or address in the extra params says nothing about the server."""
    stub.says(failure(404))
    backend.setup(extra_params={"model": "no-such-model"})
    assert backend.predict(prompt="x").status_code == 502
    assert health(backend)["last_completion"] is None


def test_strangers_do_not_see_reasons(make_backend: MakeApp, stub: StubLLM) -> None:
    """With Basic auth, the reason, which may quote the provider, is for those who know it."""
    backend = make_backend(**AUTH)
    right = credentials("user", "pass wörd")
    stub.says(failure(401))
    body = {
        "tasks": [{"id": 1, "data": {"text": "t"}}],
        "label_config": CLASSIFICATION,
        "params": {"context": {"result": [{"from_name": "prompt", "value": {"text": ["p"]}}]}},
    }
    assert backend.client.post("/predict", json=body, headers=right).status_code == 502
    last = health(backend)["last_completion"]
    assert last["code"] == "provider_authentication"
    assert "credentials" in last["reason"]
    known = backend.client.get("/health", headers=right).json["last_completion"]
    assert "OPENAI_API_KEY" in known["reason"]


def test_workers_tell_the_same(tmp_path: Path) -> None:
    """What the last completion of all has come to, whoever is asked, and also when its worker has died."""
    first, second = (ProviderStatus(OWN, "m", SharedFolder(tmp_path, number)) for number in (0, 1))
    assert first.last() is None
    with pytest.raises(ProviderDownError), first.noting(OWN, "m"):
        raise ProviderDownError("down")
    failed = first.last()
    assert failed is not None
    assert (failed.code, failed.reason) == ("provider_down", "down")
    assert second.last() == failed
    ends = [failed]
    for wait in (0, provider_status._SAME_AGAIN_SECONDS):  # the second time only `at` changes
        time.sleep(wait)
        with second.noting(OWN, "m"):
            pass
        ended = first.last()
        assert ended is not None
        assert ended.code == ""
        assert ended.at > ends[-1].at
        ends.append(ended)
    newcomer = ProviderStatus(OWN, "m", SharedFolder(tmp_path, 0))
    assert newcomer.last() == second.last() == first.last()


def test_successes_in_a_row_cost_no_writing(tmp_path: Path) -> None:
    """Of a thousand completions within a second one is written, and all workers tell of that one."""
    status = ProviderStatus(OWN, "m", SharedFolder(tmp_path, 0))
    written: set[tuple[str, int]] = set()
    began = time.time()
    for _ in range(1000):
        with status.noting(OWN, "m"):
            pass
        written.update((file.name, file.stat().st_ino) for file in tmp_path.iterdir())
    assert len(written) <= 1 + (time.time() - began) // provider_status._SAME_AGAIN_SECONDS
    assert status.last() == ProviderStatus(OWN, "m", SharedFolder(tmp_path, 1)).last()


@pytest.mark.parametrize(
    ("endpoint", "model", "error"),
    [
        (Endpoint("openai", "http://other/v1", "key"), "m", ProviderDownError("down")),
        (OWN, "other", ProviderDownError("down")),
        (OWN, "m", PicturesRefusedError("no pictures")),
    ],
)
def test_what_does_not_count_as_a_completion(endpoint: Endpoint, model: str, error: BackendError) -> None:
    """What projects chose for themselves, and pictures that the model gets as text at once."""
    status = ProviderStatus(OWN, "m")
    with pytest.raises(type(error)), status.noting(endpoint, model):
        raise error
    assert status.last() is None


def test_a_folder_that_is_gone_costs_no_completion(tmp_path: Path) -> None:
    """The worker then knows of its own completions only."""
    status = ProviderStatus(OWN, "m", SharedFolder(tmp_path / "gone", 0))
    for _ in range(2):
        with status.noting(OWN, "m"):
            pass
    assert status.last() is not None


def test_a_folder_for_state_that_is_a_file(make_backend: MakeApp, tmp_path: Path) -> None:
    """Both the folder and the database in it are named, and the server is UP all the same."""
    (tmp_path / "file").touch()
    backend = make_backend(MODEL_DIR=str(tmp_path / "file"))
    problems = health_with(backend, lambda found: len(found["problems"]) == 2)["problems"]
    assert "MODEL_DIR" in problems[0]
    assert "database" in problems[1]
    assert str(tmp_path) not in str(problems)


def test_a_database_that_is_a_folder_and_is_put_right(make_backend: MakeApp, tmp_path: Path) -> None:
    """The problem goes when its cause has gone, without a restart."""
    (tmp_path / "state.sqlite3").mkdir()
    backend = make_backend()
    [problem] = health_with(backend, lambda found: found["problems"])["problems"]
    assert problem.startswith("The database cannot be written")
    (tmp_path / "state.sqlite3").rmdir()
    health_with(backend, lambda found: not found["problems"])


def test_a_database_that_nobody_reaches(make_backend: MakeApp) -> None:
    """No address and no password of it is told to strangers."""
    backend = make_backend(DATABASE_URL="postgresql+psycopg://someone:secret@127.0.0.1:1/nothing")
    [problem] = health_with(backend, lambda found: found["problems"])["problems"]
    assert "DATABASE_URL" in problem
    assert "secret" not in problem
    assert "127.0.0.1" not in problem


def test_a_locked_database_keeps_nobody_waiting(backend: Backend, tmp_path: Path) -> None:
    """`/health` answers while another holds the lock, and says so when it has held it for long."""
    health_with(backend, lambda found: not found["problems"])
    locker = sqlite3.connect(tmp_path / "state.sqlite3", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    try:
        [problem] = health_with(backend, lambda found: found["problems"])["problems"]
        assert "has not answered for" in problem
    finally:
        locker.execute("ROLLBACK")
        locker.close()
    health_with(backend, lambda found: not found["problems"])


def test_a_probe_that_hangs_is_not_waited_for() -> None:
    """A request gets the last answer, and nobody asks a second time meanwhile."""
    release = threading.Event()
    looks = []

    def look() -> str:
        looks.append(release.wait(30))
        return "seen"

    probe = BackgroundProbe(look)
    assert probe.ask(0.01).answer is None
    assert probe.ask(0.01).waiting > 0
    release.set()
    assert probe.ask(30).answer == "seen"
    assert probe.ask(30).waiting == 0
    assert looks == [True]


def test_a_server_that_ends_asks_no_more() -> None:
    """What is under way is waited for, so that it does not open again what is closed after it."""
    looks: list[int] = []
    probe = BackgroundProbe(lambda: looks.append(1))
    probe.close()
    assert probe.ask(1).answer is None
    assert looks == []
