"""The parts of scenarios: an LLM that counts what it is paid for, servers, people, batches, and a report."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testkit.servers import GUNICORN, ROOT, Server, backend
from testkit.stub_llm import Answer, Call, StubLLM, completion

CONFIG = (ROOT / "examples/text-classification/label_config.xml").read_text()
PROMPT = "Is it sarcastic?"
HEALTH_SECONDS = 1.0  # Label Studio waits so long for `/health`
_REPLY = '{"response": "Yes, it is.", "sentiment": ["Sarcastic"]}'
_ANSWER_SECONDS = 150.0
_TEXT = re.compile("Source Text: (.*)")


class Ledger:
    """An LLM on loopback that records its calls and its answers by the texts of the tasks.

    `fault` gives the answer for a text that must fail, else None.
    """

    def __init__(self, stub: StubLLM, latency: float = 0.05) -> None:
        self.url = stub.url
        self.latency = latency
        self.fault: Callable[[str], Answer | None] = lambda text: None
        self.asked: list[tuple[float, str]] = []
        self.answered: list[tuple[float, str]] = []
        self._stub = stub
        stub.answer = self._answer

    def times_paid(self) -> Counter[str]:
        """How often each text of a batch has got a whole answer."""
        return Counter(text for _, text in self.answered if text.startswith("text"))

    def _answer(self, call: Call) -> Answer:
        self._stub.calls.clear()  # they would fill the memory
        found = _TEXT.search(call.body["messages"][-1]["content"])
        text = found[1] if found else ""
        self.asked.append((time.monotonic(), text))
        fault = self.fault(text)
        if fault is not None:
            return fault
        time.sleep(self.latency)
        self.answered.append((time.monotonic(), text))
        return completion(_REPLY)


@dataclass(frozen=True)
class Seen:
    """The answer to a request. If there was none, `status` is 0 and `reason` says why.

    `entries` are the predictions; an interactive request has one.
    """

    status: int
    reason: str
    seconds: float
    entries: list[Any] = field(default_factory=list)

    @property
    def box(self) -> str:
        """The text in the response box."""
        regions = self.entries[0]["result"] if len(self.entries) == 1 and self.entries[0] else []
        texts = [region["value"]["text"][0] for region in regions if region["from_name"] == "response"]
        return str(texts[0]) if texts else ""

    @property
    def is_warning(self) -> bool:
        """Whether a person sees why there is no answer."""
        return self.status == 200 and self.box.startswith("\u26a0 ")

    @property
    def is_answer(self) -> bool:
        """Whether a person got an answer."""
        return self.status == 200 and self.box != "" and not self.is_warning

    @property
    def predicted(self) -> int:
        """How many tasks got a prediction."""
        return sum(map(bool, self.entries))


def person(server: Server, number: int, prompt: str = PROMPT) -> Seen:
    """What a person sees after a prompt in a task of their own and Shift+Enter."""
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": [prompt]}}
    task = {"id": 1_000_000 + number, "data": {"text": f"person {number}"}}
    return _predict(server, [task], {"result": [region]}, project=f"{2 + number % 10}.1795440473")


def people(server: Server, numbers: Sequence[int], prompt: str = PROMPT) -> list[Seen]:
    """What people see who press Shift+Enter at the same time, one for each number."""
    seen: list[Seen] = []
    threads = [
        threading.Thread(target=lambda n=number: seen.append(person(server, n, prompt))) for number in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def batch(server: Server, first: int, count: int) -> Seen:
    """What Label Studio gets for Retrieve Predictions of these tasks."""
    tasks = [{"id": n, "data": {"text": f"text {n}"}} for n in range(first, first + count)]
    return _predict(server, tasks, None, project="1.1795440473")


class Background:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Seen]) -> None:
        self._seen: list[Seen] = []
        self._thread = threading.Thread(target=lambda: self._seen.append(call()), daemon=True)
        self._thread.start()

    def result(self, timeout: float = _ANSWER_SECONDS) -> Seen:
        """The result of the call; a `Seen` without an answer if it does not end in time."""
        self._thread.join(timeout)
        return self._seen[0] if self._seen else Seen(0, "no answer", timeout)


def _predict(server: Server, tasks: list[Any], context: Any, *, project: str) -> Seen:
    body = {"tasks": tasks, "project": project, "label_config": CONFIG, "params": {"context": context}}
    started = time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=_ANSWER_SECONDS)
    try:
        connection.request("POST", "/predict", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        results = json.loads(answer.read()).get("results", [])
        return Seen(answer.status, answer.reason, time.monotonic() - started, results)
    except (OSError, http.client.HTTPException) as error:
        return Seen(0, repr(error), time.monotonic() - started)
    finally:
        connection.close()


_WATCH = """
import http.client, sys, time
slowest = 0.0
while True:
    time.sleep(0.25)
    started = time.monotonic()
    connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
    try:
        connection.request("GET", "/health")
        good = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        good = False
    finally:
        connection.close()
    slowest = max(slowest, time.monotonic() - started if good else 10.0)
    print(slowest, flush=True)
"""


class HealthWatch:
    """Asks for `/health` four times a second. A process of its own does it, so that no thread delays it."""

    def __init__(self, server: Server) -> None:
        command = [sys.executable, "-c", _WATCH, urlsplit(server.url).netloc]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def stop(self) -> float:
        """Ends the watch. Gives the slowest answer, in seconds."""
        self._process.terminate()
        said, _ = self._process.communicate()
        return float(said.split()[-1]) if said.split() else 0.0


class MemoryWatch:
    """Watches the worker's resident memory and keeps the largest value, in megabytes."""

    def __init__(self, server: Server) -> None:
        self.most = 0.0
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Ends the watch and gives the largest value."""
        self._stop.set()
        self._thread.join()
        return self.most

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, self._server.worker_megabytes())


class Stage:
    """Plays one scenario and keeps its results. A scenario has failed if `failures` is not empty."""

    def __init__(self, stub: StubLLM, folder: Path) -> None:
        self.ledger = Ledger(stub)
        self.failures: list[str] = []
        self.seen: list[str] = []
        self.lost = ""
        self.state = folder / "state"
        self.log_file = folder / "log"
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        self._someone = 0

    @property
    def database(self) -> Path:
        """The server's SQLite file."""
        return self.state / "state.sqlite3"

    @property
    def log(self) -> str:
        """All that the servers have said."""
        return self.log_file.read_text(errors="replace")

    def expect(self, holds: object, sentence: str) -> None:
        """Notes the sentence as a failure unless it holds."""
        if not holds:
            self.failures.append(sentence)
            print(f"  FAILED: {sentence}", flush=True)

    def saw(self, what: str) -> None:
        """Notes what a user saw, once."""
        if what not in self.seen:
            self.seen.append(what)

    @contextmanager
    def server(
        self,
        prefix: Sequence[str] = (),
        /,
        *,
        url: str | None = None,
        always_healthy: bool = True,
        **variables: str,
    ) -> Iterator[Server]:
        """Runs a backend that asks the ledger, or the LLM at `url`. Checks afterwards that it leaves nothing.

        With `always_healthy`, `/health` must be quick all the time.
        """
        settings = {
            "DEFAULT_PROMPT": PROMPT,
            "LOG_LEVEL": "INFO",
            "TMPDIR": str(self._temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with backend(
            url or self.ledger.url,
            self.log_file,
            GUNICORN,
            prefix,
            model_dir=self.state,
            **settings | variables,
        ) as server:
            watch = HealthWatch(server) if always_healthy else None
            try:
                yield server
            finally:
                slowest = watch.stop() if watch else 0.0
        self.expect(slowest < HEALTH_SECONDS, f"/health took {slowest:.1f} s")
        self.expect(not _group(server.pid), "a process is left")
        self.expect(not list(self._temporary.iterdir()), "files are left in the temporary folder")
        self.expect("Traceback" not in self.log, "there is a traceback in the log")

    def is_well(self, server: Server) -> None:
        """Checks that the next person gets an answer and that `/health` is quick."""
        started = time.monotonic()
        server.get("/health")
        self.expect(time.monotonic() - started < HEALTH_SECONDS, "/health is slow afterwards")
        self._someone += 1
        seen = person(server, 900_000 + self._someone)
        self.expect(seen.is_answer, f"the next person gets {seen.status} {seen.reason}: {seen.box!r}")

    def warns(self, seen: Sequence[Seen], sentence: str, within: float) -> None:
        """Checks that people got HTTP 200 with the sentence in the response box, in so many seconds."""
        for one in seen:
            right = one.is_warning and sentence in one.box
            self.expect(right, f"a person sees {one.status} {one.reason}: {one.box!r}")
            self.expect(one.seconds <= within, f"a person waits {one.seconds:.1f} s")
            if right:
                self.saw(f"`{one.box}`")

    def completes(self, server: Server, first: int, count: int) -> Seen:
        """Asks again for the batch and checks that every task has its prediction."""
        seen = batch(server, first, count)
        self.expect(
            seen.predicted == len(seen.entries) == count,
            f"asked again, {seen.predicted} of {count} tasks have a prediction ({seen.status} {seen.reason})",
        )
        return seen

    def receipts(self, count: int, *, twice: int = 0) -> None:
        """Checks that the texts of all these tasks were paid for, at most `twice` of them more than once."""
        paid = self.ledger.times_paid()
        extra = sum(paid.values()) - len(paid)
        self.expect(len(paid) == count, f"{len(paid)} of {count} tasks have been paid for")
        self.expect(extra <= twice, f"{extra} completions were paid for again")
        self.lost = f"nothing; {count} predictions, {sum(paid.values())} completions paid for"


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Waits until the condition holds.

    Raises:
        TimeoutError: it does not hold within `seconds`; the message names `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} has not come within {seconds:.0f} s")
        time.sleep(0.02)


def work_left(server: Server) -> int:
    """How many tasks of batches are not finished."""
    return sum(job["left"] for job in server.get("/jobs")["jobs"])


def gone_wrong(answer: Answer, every: int = 1) -> Callable[[str], Answer | None]:
    """A fault for all people and for every `every`th task of a batch."""

    def fault(text: str) -> Answer | None:
        kind, _, number = text.partition(" ")
        return answer if kind == "person" or int(number) % every == 0 else None

    return fault


def _group(group: int) -> list[int]:
    """The processes of the group that still run."""
    members = []
    for entry in Path("/proc").iterdir():
        try:
            state, _parent, in_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if (
            entry.name.isdigit()
            and int(in_group) == group
            and state != "Z"
            and int(entry.name) != os.getpid()
        ):
            members.append(int(entry.name))
    return members
