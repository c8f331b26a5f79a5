"""A scenario: somebody sets the clock while the server runs."""

import functools
import os
import signal
import time
from pathlib import Path
from typing import Any

from soak.stage import Background, Stage, batch, people, wait_until, work_left

_TASKS = 400
_DAY = 86_400.0
_PREDICT_TIMEOUT = 60.0


def clock(stage: Stage) -> None:
    """The wall clock (`time.time`) jumps 40 days on, then 80 back, within a batch; a worker is killed."""
    stage.ledger.latency = 0.2
    offset = stage.log_file.with_name("clock")
    offset.write_text("0")
    settings: dict[str, Any] = {
        "PYTHONPATH": str(Path(__file__).parent / "clock_that_jumps"),
        "SOAK_CLOCK": str(offset),
        "MAX_CONCURRENCY": "16",
        "LEASE_SECONDS": "5",
        "PREDICT_TIMEOUT": str(_PREDICT_TIMEOUT),
    }
    with stage.server(always_healthy=False, **settings) as server:
        stage.is_well(server)
        waiting = Background(lambda: batch(server, 1, _TASKS))
        for days, done in ((40, 100), (-40, 200)):
            wait_until(functools.partial(_has_paid, stage, done), 30, f"{done} tasks")
            offset.write_text(str(days * _DAY))
            stage.expect(all(one.is_answer for one in people(server, range(10))), "people are not answered")
        seen = waiting.result()
        stage.expect(seen.predicted == _TASKS, f"the batch got {seen.predicted} predictions ({seen.status})")
        stage.expect(seen.seconds < _PREDICT_TIMEOUT, f"the batch took {seen.seconds:.0f} s")
        stage.saw(f"nothing: people are answered, the batch gets all {_TASKS} after {seen.seconds:.0f} s")

        stage.receipts(_TASKS)

        # The tasks of a dead worker are taken again, even if the clock was set back.
        offset.write_text("0")
        waiting = Background(lambda: batch(server, 1001, _TASKS))
        wait_until(
            lambda: len(stage.ledger.times_paid()) >= _TASKS + 100, 30, "a quarter of the second batch"
        )
        offset.write_text(str(-_DAY))
        os.kill(server.worker_pid, signal.SIGKILL)
        killed_at = time.monotonic()
        waiting.result()
        wait_until(lambda: server.get("/jobs")["jobs"] and work_left(server) == 0, 60, "the second batch")
        stage.saw(f"a batch whose worker was killed is done {time.monotonic() - killed_at:.0f} s later")
        stage.completes(server, 1, _TASKS)
        stage.completes(server, 1001, _TASKS)
        stage.is_well(server)
    stage.receipts(2 * _TASKS, twice=2 * 16 + 16)


def _has_paid(stage: Stage, tasks: int) -> bool:
    return len(stage.ledger.times_paid()) >= tasks
