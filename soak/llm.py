"""Scenarios of the LLM: it hangs, resets, answers half a body, wrong JSON, 500 for a minute, or gigabytes."""

import itertools
import json
import threading
import time
import zlib
from typing import Any

from soak.stage import Background, MemoryWatch, Stage, batch, gone_wrong, people, person, wait_until
from testkit.servers import Server
from testkit.stub_llm import Answer, completion, failure

_LLM_TIMEOUT = 6.0
_PREDICT_TIMEOUT = 40.0
_SETTINGS: dict[str, Any] = {
    "LLM_TIMEOUT": f"{_LLM_TIMEOUT:.0f}",
    "PREDICT_TIMEOUT": f"{_PREDICT_TIMEOUT:.0f}",
}
_SLACK = 2.0  # seconds that a busy machine may add
_GIGABYTE = 1 << 30


def hang(stage: Stage) -> None:
    """The LLM takes the call and never answers."""
    _part_of_the_tasks(stage, Answer(delay=600, body={}), "did not answer in time")


def reset(stage: Stage) -> None:
    """The LLM resets every connection: from the start, and for 8 s in the middle of a batch."""
    fault = gone_wrong(Answer(reset=True))
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        stage.ledger.fault = fault
        stage.warns(people(server, range(20)), "broke off", _LLM_TIMEOUT + _SLACK)
        _fails_as_a_whole(stage, server, 1001, 40, "broke off")
        stage.ledger.fault = lambda text: None
        waiting = Background(lambda: batch(server, 1, 200))
        wait_until(lambda: len(stage.ledger.times_paid()) >= 50, 30, "a quarter of the batch")
        stage.ledger.fault = fault
        time.sleep(8)
        stage.ledger.fault = lambda text: None
        seen = waiting.result()
        stage.expect(seen.predicted == 200, f"{seen.predicted} of 200 predictions ({seen.status})")
        stage.expect(seen.seconds <= _PREDICT_TIMEOUT, f"the batch took {seen.seconds:.0f} s")
        stage.saw(f"a batch waits and goes on: all 200 after {seen.seconds:.0f} s")
        stage.is_well(server)
        stage.completes(server, 1001, 40)
        stage.receipts(240)


def half_body(stage: Stage) -> None:
    """The LLM sends half of its answer and closes the connection."""
    half = Answer(body=completion("This answer is cut off in its middle").body, end="middle")
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        stage.ledger.fault = gone_wrong(half)
        stage.warns(people(server, range(20)), "broke off", _LLM_TIMEOUT + _SLACK)
        _fails_as_a_whole(stage, server, 1001, 40, "broke off")
        first: set[str] = set()
        lock = threading.Lock()

        def first_try_of_some(text: str) -> Answer | None:
            with lock:
                again = text in first
                first.add(text)
            return None if again or int(text.partition(" ")[2]) % 4 else half

        stage.ledger.fault = first_try_of_some
        seen = batch(server, 1, 200)
        stage.expect(seen.predicted == 200, f"{seen.predicted} of 200 predictions ({seen.status})")
        stage.saw("one that comes whole at the next try is used")
        stage.ledger.fault = lambda text: None
        stage.is_well(server)
        stage.completes(server, 1001, 40)
        stage.receipts(240)


def wrong_json(stage: Stage) -> None:
    """The LLM answers 200 with HTML, a list, null, an object without choices, or choices of wrong types."""
    wrong = itertools.cycle(
        Answer(raw=body)
        for body in (
            b"<html>",
            b'{"half": ',
            b"[]",
            b"null",
            b'{"choices": 5}',
            b'{"choices": [{"message": 7}]}',
        )
    )
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        stage.ledger.fault = lambda text: next(wrong) if gone_wrong(Answer(), 4)(text) else None
        _people_and_two_batches(stage, server, "not a chat completion")
        stage.receipts(240)


def errors_500(stage: Stage) -> None:
    """The LLM answers 500 for a minute."""
    minute = 60.0
    with stage.server(LLM_TIMEOUT="20") as server:
        stage.is_well(server)
        began = time.monotonic()
        stage.ledger.fault = lambda text: failure(500) if time.monotonic() < began + minute else None
        stage.warns(people(server, range(20)), "failed on its side (500)", 10 + _SLACK)
        whole = Background(lambda: batch(server, 1, 200))
        time.sleep(max(0.0, began + minute - 12 - time.monotonic()))
        seen = whole.result()
        stage.expect(seen.status == 502 and "(500)" in seen.reason, f"a batch: {seen.status} {seen.reason}")
        stage.saw(f"a batch of which all fail: `{seen.status} {seen.reason}`")
        stage.warns([person(server, 20)], "failed on its side (500)", 10 + _SLACK)
        seen = batch(server, 1001, 200)
        stage.expect(len(seen.entries) == 200, f"{len(seen.entries)} entries instead of 200")
        stage.expect(0 < seen.predicted < 200, f"{seen.predicted} of 200 across the end of the minute")
        stage.saw(f"across the minute's end {200 - seen.predicted} of 200 tasks are left empty")
        stage.is_well(server)
        stage.completes(server, 1, 200)
        stage.completes(server, 1001, 200)
        stage.receipts(400)


def gigabytes(stage: Stage) -> None:
    """The LLM sends a body that never ends, or a megabyte that unpacks to a gigabyte."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(_GIGABYTE >> 20)) + packer.flush()
    endless = Answer(raw=b'{"choices": [' + b" " * 65536, end="never")
    bomb = Answer(raw=packed, headers={"Content-Encoding": "gzip"})
    both = itertools.cycle([endless, bomb])
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        idle = server.worker_megabytes()
        watch = MemoryWatch(server)
        stage.ledger.fault = lambda text: next(both) if gone_wrong(Answer(), 4)(text) else None
        _people_and_two_batches(stage, server, "far more than a completion")
        more = watch.stop() - idle
        stage.expect(more < 1024, f"memory grew by {more:.0f} MB")
        stage.saw(f"memory grows by {more:.0f} MB at most")
        stage.receipts(240)


def _part_of_the_tasks(stage: Stage, fault: Answer, sentence: str) -> None:
    with stage.server(**_SETTINGS) as server:
        stage.is_well(server)
        stage.ledger.fault = gone_wrong(fault, 4)
        _people_and_two_batches(stage, server, sentence)
        stage.receipts(240)


def _people_and_two_batches(stage: Stage, server: Server, sentence: str) -> None:
    """Every fourth task of a batch fails, then all of another batch; people see why. Then the fault ends."""
    stage.warns(people(server, range(20)), sentence, _LLM_TIMEOUT + _SLACK)
    seen = batch(server, 1, 200)
    empty = [number for number, entry in enumerate(seen.entries, start=1) if not entry]
    stage.expect(len(seen.entries) == 200, f"{len(seen.entries)} entries instead of 200 ({seen.reason})")
    stage.expect(empty == list(range(4, 201, 4)), f"{len(empty)} entries are empty, not every fourth")
    stage.expect(seen.seconds <= _PREDICT_TIMEOUT, f"the batch took {seen.seconds:.0f} s")
    stage.saw("of a batch the tasks that fail are left empty")
    every = stage.ledger.fault
    stage.ledger.fault = lambda text: every("person 1")
    _fails_as_a_whole(stage, server, 1001, 40, sentence)
    stage.ledger.fault = lambda text: None
    stage.is_well(server)
    stage.completes(server, 1, 200)
    stage.completes(server, 1001, 40)


def _fails_as_a_whole(stage: Stage, server: Server, first: int, count: int, sentence: str) -> None:
    """Checks that a batch whose tasks all fail gets the reason, in time."""
    seen = batch(server, first, count)
    told = seen.status >= 500 and sentence in seen.reason
    stage.expect(told, f"a batch that fails: {seen.status} {seen.reason} {json.dumps(seen.entries)[:80]}")
    stage.expect(seen.seconds <= _PREDICT_TIMEOUT, f"a batch that fails took {seen.seconds:.0f} s")
