"""A scenario: two hundred people type prompts for two minutes."""

import random
import statistics
import threading
import time

from soak.stage import Seen, Stage, person
from testkit.servers import Server, stub_llm

_USERS = 200
_SECONDS = 120.0
_LATENCY = 0.5
_THINKING = (3.0, 10.0)  # seconds between an answer and the next prompt


def users(stage: Stage) -> None:
    """200 people press Shift+Enter at once, and again 3 to 10 s after each answer, for 2 minutes."""
    with stub_llm(_LATENCY) as llm, stage.server(url=llm) as server:
        stage.is_well(server)
        idle = server.worker_megabytes()
        seen = _work(server)
        memory = server.worker_megabytes()
        stage.is_well(server)
    answers = [one for one in seen if one.is_answer]
    for reason in sorted({one.box or f"{one.status} {one.reason}" for one in seen if not one.is_answer}):
        number = sum((one.box or f"{one.status} {one.reason}") == reason for one in seen)
        stage.expect(False, f"{number} of {len(seen)} prompts get {reason}")
    late = sorted(one.seconds - _LATENCY for one in answers)
    percentiles = statistics.quantiles(late, n=100)
    stage.saw(
        f"{len(answers)} answers to {len(seen)} prompts; over the LLM's {_LATENCY} s: median "
        f"{statistics.median(late):.2f} s, 95 % {percentiles[94]:.2f} s, 99 % {percentiles[98]:.2f} s, "
        f"slowest {late[-1]:.2f} s; memory {idle:.0f} MB before, {memory:.0f} MB after"
    )
    stage.lost = "nothing"


def _work(server: Server) -> list[Seen]:
    seen: list[Seen] = []
    until = time.monotonic() + _SECONDS

    def one(user: int) -> None:
        chance = random.Random(user)
        for round_number in range(1000):
            seen.append(person(server, user + _USERS * round_number, f"Prompt {round_number} of {user}"))
            pause = chance.uniform(*_THINKING)
            if time.monotonic() + pause > until:
                return
            time.sleep(pause)

    threads = [threading.Thread(target=one, args=(user,), daemon=True) for user in range(_USERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen
