"""`/metrics` and `/health` of a server with several workers: one truth, whoever is asked."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from llm_backend import __version__
from testkit.servers import Server, backend
from testkit.stub_llm import Answer, StubLLM, completion, failure
from tests.conftest import CLASSIFICATION
from tests.test_metrics import Samples, samples_of

pytestmark = pytest.mark.timeout(120)


def scrape(server: Server) -> Samples:
    """What any worker says."""
    return samples_of(server.get_text("/metrics"))


def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def mapped_folders(pid: int) -> list[str]:
    """The folders of the counters that a process has mapped into its memory."""
    with suppress(OSError):
        return re.findall(r"(/\S+)/counter_\d+\.db", Path(f"/proc/{pid}/maps").read_text())
    return []


def shared_folder(server: Server) -> Path:
    """The folder that the workers share, once one of them has started."""
    until(lambda: any(map(mapped_folders, server.worker_pids)))
    return Path(next(folder for pid in server.worker_pids for folder in mapped_folders(pid)))


def requests_by_worker(server: Server) -> list[float]:
    """How many `/versions` each worker has answered."""
    counts = []
    for file in sorted(shared_folder(server).glob("counter_*.db")):
        values = MmapedDict.read_all_values_from_file(str(file))
        counts.append(sum(value for key, value, *_ in values if '"versions"' in key))
    return counts


def ask_all(server: Server, workers: int) -> int:
    """Asks until each worker has answered more than before; how often that took."""
    before, asked = requests_by_worker(server), 0
    before += [0.0] * (workers - len(before))
    while not (
        len(after := requests_by_worker(server)) >= workers
        and all(new > old for new, old in zip(after, before, strict=True))
    ):
        assert asked < 5000
        threads = [threading.Thread(target=server.get, args=("/versions",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked += len(threads)
    return asked


def interactive(prompt: str) -> dict[str, object]:
    """A request with a typed prompt."""
    region = {"from_name": "prompt", "value": {"text": [prompt]}}
    return {
        "tasks": [{"id": 1, "data": {"text": "t"}}],
        "label_config": CLASSIFICATION,
        "params": {"context": {"result": [region]}},
    }


def counters(found: Samples) -> Samples:
    """The samples that must never decrease."""
    return {
        key: value for key, value in found.items() if key[0].endswith(("_total", "_count", "_sum", "_bucket"))
    }


def test_sums_are_right_and_never_decrease(stub: StubLLM) -> None:
    """Three workers, of which one is killed with -9 and replaced: what was sent is what is counted."""
    with backend(stub.url, WORKERS="3") as server:
        until(lambda: len(server.worker_pids) == 3)
        sent = ask_all(server, 3)
        for number in range(10):
            server.post("/predict", interactive(f"prompt {number}"))
        before = scrape(server)
        assert before["llm_backend_tasks_left",] == 0
        assert before["llm_backend_build_info", "gpt-3.5-turbo", "openai", __version__] == 1
        assert before["llm_backend_requests_total", "versions", "200"] == sent
        assert before["llm_backend_request_seconds_count", "versions"] == sent
        assert before["llm_backend_completions_total", "succeeded", "openai"] == 10
        assert before["llm_backend_tokens_total", "in", "openai"] == 110
        victims = server.worker_pids
        for victim in victims[:2]:
            os.kill(victim, signal.SIGKILL)
        until(lambda: len(server.worker_pids) == 3 and not set(victims[:2]) & set(server.worker_pids))
        sent += ask_all(server, 3)
        for _ in range(20):
            after = scrape(server)
            lower = {key for key, value in counters(before).items() if after.get(key, 0) < value}
            assert lower == set()
            assert after["llm_backend_requests_total", "versions", "200"] == sent
            assert after["llm_backend_completions_total", "succeeded", "openai"] == 10
            before = after
        assert len(list(shared_folder(server).glob("counter_*.db"))) == 3


def test_what_a_killed_worker_had_under_way_is_not_under_way(stub: StubLLM) -> None:
    """The gauges count the living: all workers together, and without the one that was killed."""
    release = threading.Event()

    def hang(call: object) -> Answer:
        release.wait(60)
        return completion("ok")

    def send(number: int) -> None:
        with suppress(OSError):  # its worker is killed
            server.post("/predict", interactive(f"prompt {number}"))

    stub.answer = hang
    with backend(stub.url, WORKERS="2") as server:
        threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: scrape(server).get(("llm_backend_completions_under_way",)) == 12)
            assert scrape(server)["llm_backend_requests_under_way", "predict"] == 12
            for pid in server.worker_pids:
                os.kill(pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
            until(lambda: scrape(server).get(("llm_backend_completions_under_way",)) == 0)
            assert scrape(server).get(("llm_backend_requests_under_way", "predict"), 0) == 0
        finally:
            release.set()


def test_a_reload_keeps_the_counts_and_the_end_removes_the_folder(stub: StubLLM) -> None:
    """SIGHUP replaces all workers; the folder is private and lasts as long as the master."""
    with backend(stub.url, WORKERS="2") as server:
        until(lambda: len(server.worker_pids) == 2)
        sent = ask_all(server, 2)
        old = set(server.worker_pids)
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: len(server.worker_pids) == 2 and not old & set(server.worker_pids))
        assert scrape(server)["llm_backend_requests_total", "versions", "200"] == sent
        folder = shared_folder(server)
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_every_worker_knows_the_last_completion(stub: StubLLM) -> None:
    """A failure that one worker met is told by all, and so is the success after it."""
    with backend(stub.url, WORKERS="3", SHOW_ERRORS="1") as server:
        until(lambda: len(server.worker_pids) == 3)
        stub.says(failure(401))
        server.post("/predict", interactive("x"))
        told = [server.get("/health")["last_completion"] for _ in range(30)]
        assert {last["code"] for last in told} == {"provider_authentication"}
        stub.says("Sarcastic")
        server.post("/predict", interactive("y"))
        assert all(server.get("/health")["last_completion"]["succeeded"] for _ in range(30))
