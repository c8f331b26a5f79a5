"""docker-compose.yml passes on every setting."""

import re
from pathlib import Path

from llm_backend.settings import Settings

COMPOSE = (Path(__file__).parent.parent / "docker-compose.yml").read_text()


def test_every_setting_reaches_the_container() -> None:
    """A variable that the shell sets is passed on, or is fixed on purpose."""
    passed_on = set(re.findall(r"^ +([A-Z][A-Z_]+):", COMPOSE, re.MULTILINE))
    assert {name.upper() for name in Settings.model_fields} <= passed_on
