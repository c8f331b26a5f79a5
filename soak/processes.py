"""Scenarios of processes: somebody kills a worker, or ends the server by SIGTERM."""

import functools
import os
import signal
import subprocess
import threading
import time
from typing import Any

from soak.stage import Background, Seen, Stage, batch, gone_wrong, person, wait_until, work_left
from testkit.servers import Server
from testkit.stub_llm import Answer

_UNWRITTEN_SECONDS = 0.5  # an answer needs so long, at most, to reach the database
_GRACE_SECONDS = 30.0


def kill_worker(stage: Stage) -> None:
    """`kill -9` of the worker, with 20 people and a batch of 1,000 under way."""
    tasks, concurrency = 1000, 16
    stage.ledger.latency = 0.2
    settings: dict[str, Any] = {"LEASE_SECONDS": "3", "MAX_CONCURRENCY": str(concurrency)}
    with stage.server(always_healthy=False, **settings) as server:
        stage.is_well(server)
        typing = _Typing(server, 20)
        waiting = Background(lambda: batch(server, 1, tasks))
        wait_until(lambda: len(stage.ledger.times_paid()) >= tasks // 3, 60, "a third of the batch")
        killed_at = time.monotonic()
        os.kill(server.worker_pid, signal.SIGKILL)
        seen = waiting.result()
        stage.expect(seen.status == 0, f"the batch request was answered: {seen.status} {seen.reason}")
        wait_until(lambda: typing.answered_since(killed_at), 10, "an answer after the kill")
        back = time.monotonic() - killed_at
        wait_until(lambda: work_left(server) == 0, 60, "the end of the batch in the background")
        people_seen = typing.stop()
        calls = len(stage.ledger.asked)
        stage.completes(server, 1, tasks)
        stage.expect(len(stage.ledger.asked) == calls, "asked again, the batch costs something")
        stage.is_well(server)
    wrong = [one for at, one in people_seen if not one.is_answer]
    unlucky = [one for one in wrong if one.status == 0]
    stage.expect(len(wrong) == len(unlucky) <= 20, f"{len(wrong)} of the 20 people saw a failure")
    stage.saw(
        f"the {len(unlucky)} people whose prompt was under way see nothing, as with any HTTP failure; "
        f"the first answer came {back:.1f} s after the kill; the batch goes on by itself"
    )
    paid = {text for at, text in stage.ledger.answered if at < killed_at - _UNWRITTEN_SECONDS}
    again = {text for at, text in stage.ledger.asked if at > killed_at and text in paid and "text" in text}
    stage.expect(not again, f"{len(again)} completions that had been written were asked for again")
    under_way = concurrency + round(concurrency * _UNWRITTEN_SECONDS / stage.ledger.latency)
    stage.receipts(tasks, twice=under_way)


def terminate(stage: Stage) -> None:
    """SIGTERM with 10 people and a batch of 200 under way, each completion 3 s."""
    stage.ledger.latency = 3.0
    settings: dict[str, Any] = {"MAX_CONCURRENCY": "16"}
    with stage.server(always_healthy=False, **settings) as server:
        waiting = Background(lambda: batch(server, 1, 200))
        wait_until(lambda: len(stage.ledger.times_paid()) >= 32, 30, "the first of the batch")
        typing = [Background(functools.partial(person, server, number)) for number in range(10)]
        time.sleep(1)
        seconds = _ends(stage, server)
        answers = [one.result() for one in typing]
        seen = waiting.result()
    got = sum(one.is_answer for one in answers)
    stage.expect(got == 10, f"{got} of 10 people were answered: {answers[0].status} {answers[0].reason}")
    stage.expect(len(seen.entries) == 200, f"the batch got {seen.status} {seen.reason}")
    stage.expect(32 <= seen.predicted < 200, f"the batch got {seen.predicted} predictions")
    stage.saw(
        f"all 10 people are answered, the batch at once with the {seen.predicted} predictions there are; "
        f"the server has ended after {seconds:.1f} s"
    )
    stage.ledger.latency = 0.05
    with stage.server(**settings) as server:
        stage.completes(server, 1, 200)
        stage.is_well(server)
        stage.receipts(200)


def terminate_hang(stage: Stage) -> None:
    """SIGTERM while the LLM hangs: 5 people and every fourth task of a batch wait for it."""
    stage.ledger.fault = gone_wrong(Answer(delay=600, body={}), 4)
    settings: dict[str, Any] = {"MAX_CONCURRENCY": "16", "LLM_TIMEOUT": "120"}
    with stage.server(always_healthy=False, **settings) as server:
        waiting = Background(lambda: batch(server, 1, 40))
        typing = [Background(functools.partial(person, server, number)) for number in range(5)]
        wait_until(lambda: len(stage.ledger.times_paid()) >= 30, 30, "what does not hang")
        time.sleep(1)
        seconds = _ends(stage, server)
        seen = waiting.result()
        answers = [one.result() for one in typing]
    stage.expect(len(seen.entries) == 40, f"the batch got {seen.status} {seen.reason}")
    stage.expect(seen.predicted == 30, f"the batch got {seen.predicted} of 30 predictions")
    told = sum(one.is_warning for one in answers)
    stage.saw(
        f"the batch is answered at once with the {seen.predicted} predictions there are; of 5 people {told} "
        f"are told so; the server has ended after {seconds:.1f} s"
    )
    stage.ledger.fault = lambda text: None
    with stage.server(**settings) as server:
        stage.completes(server, 1, 40)
        stage.is_well(server)
        stage.receipts(40)


def _ends(stage: Stage, server: Server) -> float:
    """Sends SIGTERM, waits for the end, and gives the seconds that it took."""
    started = time.monotonic()
    server.terminate()
    try:
        status = server.process.wait(_GRACE_SECONDS + 15)
    except subprocess.TimeoutExpired:
        stage.expect(False, "the server does not end")
        return _GRACE_SECONDS + 15
    seconds = time.monotonic() - started
    stage.expect(status == 0, f"the server ended with {status}")
    stage.expect(seconds <= _GRACE_SECONDS, f"the server took {seconds:.1f} s to end")
    stage.expect("SIGKILL" not in stage.log, "the worker had to be killed")
    return seconds


class _Typing:
    """People who type one prompt after the other, with hardly a pause."""

    def __init__(self, server: Server, number: int) -> None:
        self.seen: list[tuple[float, Seen]] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._type, args=(user, number), daemon=True) for user in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def answered_since(self, moment: float) -> bool:
        """Whether somebody who asked after `moment` has got an answer."""
        return any(at > moment and one.is_answer for at, one in self.seen)

    def stop(self) -> list[tuple[float, Seen]]:
        """Stops the people. Gives the time of each prompt, and what its person saw."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.seen

    def _type(self, user: int, users: int) -> None:
        round_number = 0
        while not self._stop.wait(0.2):
            round_number += 1
            sent_at = time.monotonic()
            self.seen.append((sent_at, person(self._server, user + users * round_number)))
