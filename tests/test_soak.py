"""docs/reliability.md and the scenarios of `python -m soak` are about the same faults."""

import re
from pathlib import Path

from soak.__main__ import SCENARIOS

DOCUMENT = (Path(__file__).parent.parent / "docs" / "reliability.md").read_text()


def test_every_scenario_has_a_row() -> None:
    """In the order of the code, with the command that plays it."""
    assert re.findall(r"^\|.*?`python -m soak ([a-z0-9-]+)`", DOCUMENT, re.MULTILINE) == list(SCENARIOS)


def test_every_scenario_says_how_its_fault_is_provoked() -> None:
    """The table that it prints takes it from there."""
    assert all(scenario.provoked.endswith(".") for scenario in SCENARIOS.values())
