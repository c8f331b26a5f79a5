"""`python -m soak [NAME ...]` plays the named scenarios, or all, and prints what it finds.

It exits with 1 if a scenario has failed.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from soak import clock, database, llm, memory, processes, users
from soak.stage import Stage
from testkit.stub_llm import running_stub


@dataclass(frozen=True)
class Scenario:
    """A scenario: its function, and the seconds after which it has failed."""

    play: Callable[[Stage], None]
    limit: int

    @property
    def provoked(self) -> str:
        """How the scenario provokes its fault: the docstring of its function."""
        return (self.play.__doc__ or "").strip()


SCENARIOS = {
    "users": Scenario(users.users, 180),
    "hang": Scenario(llm.hang, 90),
    "reset": Scenario(llm.reset, 90),
    "half-body": Scenario(llm.half_body, 90),
    "wrong-json": Scenario(llm.wrong_json, 60),
    "errors-500": Scenario(llm.errors_500, 150),
    "gigabytes": Scenario(llm.gigabytes, 120),
    "kill-worker": Scenario(processes.kill_worker, 90),
    "terminate": Scenario(processes.terminate, 90),
    "terminate-hang": Scenario(processes.terminate_hang, 120),
    "disk-full": Scenario(database.disk_full, 120),
    "locked": Scenario(database.locked, 150),
    "read-only": Scenario(database.read_only, 90),
    "corrupt": Scenario(database.corrupt, 120),
    "clock": Scenario(clock.clock, 120),
    "memory": Scenario(memory.memory, 900),
}


@dataclass(frozen=True)
class Row:
    """The results of one scenario."""

    name: str
    provoked: str
    seen: list[str]
    lost: str
    failures: list[str]
    seconds: float

    def __str__(self) -> str:
        result = f"**FAILED**: {'; '.join(self.failures[:5])}" if self.failures else self.lost
        cells = (f"`{self.name}`", self.provoked, "; ".join(self.seen), result, f"{self.seconds:.0f}")
        return f"| {' | '.join(cells)} |"


def play(name: str) -> Row:
    """Plays the scenario. One that takes longer than its limit has failed."""
    scenario = SCENARIOS[name]
    print(f"{name}: {scenario.provoked}", flush=True)
    started = time.monotonic()
    with running_stub() as stub, TemporaryDirectory(prefix="soak-") as folder:
        stage = Stage(stub, Path(folder))
        try:
            with _at_most(scenario.limit):
                scenario.play(stage)
        except Exception as error:
            stage.expect(False, f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        if stage.failures and stage.log_file.exists():
            print("  The end of the server's log:", *stage.log.splitlines()[-40:], sep="\n    ", flush=True)
    return Row(name, scenario.provoked, stage.seen, stage.lost, stage.failures, seconds)


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in the main thread after so many seconds."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def main() -> int:
    """Plays the scenarios of the command line, and gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description="Load and faults, on loopback.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    names = parser.parse_args().names or list(SCENARIOS)
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    rows = [play(name) for name in names]
    print("\n| scenario | provoked | seen | lost | seconds |\n|---|---|---|---|---|")
    for row in rows:
        print(row)
    failed = [row.name for row in rows if row.failures]
    print(f"\n{'FAILED: ' + ', '.join(failed) if failed else 'All passed.'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
