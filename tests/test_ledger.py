"""The ledger: what was paid for and what was proposed comes back as it was put."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_backend.storage import Database, Ledger, Payment, Proposal

FULL_PAYMENT = Payment(
    project="7.1795440473",
    task_id=2**40,
    purpose="batch",
    provider="openai",
    model="gpt-4o-mini",
    model_version="gpt-4o-mini-0123abcd",
    tokens_in=1200,
    tokens_cached=1024,
    tokens_out=7,
    cost=0.00012345,
    outcome="ok",
    keys=("a" * 64, "b" * 64),
    at=1_700_000_000.25,
)
BARE_PAYMENT = Payment("8.1", None, "interactive", "embedded", "m", "m-1", outcome="completion_timeout")
FULL_PROPOSAL = Proposal(
    project="7.1795440473",
    task_id=3,
    purpose="interactive",
    model_version="m-1",
    prompt="Is it sarcastic? 情感 🙂",
    proposed={"sentiment": ["Sarcastic"], "response": "é", "stars": 4},
    score=0.75,
    at=1_700_000_001.5,
)
BARE_PROPOSAL = Proposal("7.1795440473", None, "interactive", "m-1", "p", {})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    opened = Database(url, tmp_path)
    yield opened
    opened.close()


def put(database: Database, payments: list[Payment], proposals: list[Proposal]) -> None:
    """Stores them in one transaction."""
    with database.writing() as connection:
        Ledger(database).put(connection, payments, proposals)


def test_what_is_put_comes_back_in_order(database: Database) -> None:
    """Every field of it, also where there is none."""
    put(database, [FULL_PAYMENT, BARE_PAYMENT], [FULL_PROPOSAL, BARE_PROPOSAL])
    put(database, [], [])
    put(database, [BARE_PAYMENT], [])
    ledger = Ledger(database)
    assert ledger.payments() == [FULL_PAYMENT, BARE_PAYMENT, BARE_PAYMENT]
    assert ledger.proposals("7.1795440473") == [FULL_PROPOSAL, BARE_PROPOSAL]


def test_projects_and_tasks_are_told_apart(database: Database) -> None:
    """A project's payments, and a task's proposals, are those alone."""
    put(database, [FULL_PAYMENT, BARE_PAYMENT], [FULL_PROPOSAL, BARE_PROPOSAL])
    ledger = Ledger(database)
    assert ledger.payments(project="8.1") == [BARE_PAYMENT]
    assert ledger.payments(project="7") == []
    assert ledger.proposals("7.1795440473", task_id=3) == [FULL_PROPOSAL]
    assert ledger.proposals("8.1", task_id=3) == []


def test_256_at_once(database: Database) -> None:
    """As many as the writer thread stores in one transaction."""
    many = [Payment("p", number, "batch", "openai", "m", "m-1") for number in range(256)]
    put(database, many, [])
    assert Ledger(database).payments(project="p") == many


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT, TEXT, st.dictionaries(st.text(), st.text() | st.lists(st.text()), max_size=3))
def test_any_text_comes_back(tmp_path: Path, project: str, prompt: str, proposed: dict[str, str]) -> None:
    """Whatever a person typed and the LLM replied."""
    opened = Database(None, tmp_path)
    proposal = Proposal(project, 1, "interactive", "m-1", prompt, proposed)
    put(opened, [], [proposal])
    assert Ledger(opened).proposals(project)[-1] == proposal
    opened.close()
