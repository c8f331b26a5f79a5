"""Fixtures for all tests: a stub OpenAI-compatible server on loopback, and real apps that ask it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from llm_backend.server.app import create_app
from llm_backend.services import Services, make_services
from llm_backend.settings import Settings, load_settings
from llm_backend.storage import Database, Jobs
from model import InteractiveLLM
from testkit.postgresql import new_database, running_postgresql
from testkit.stub_llm import StubLLM, running_stub

PROJECT = "7.1795440473"
CLASSIFICATION = """
<View>
  <Text name="text" value="$text"/>
  <TextArea name="prompt" toName="text"/>
  <TextArea name="response" toName="text"/>
  <Choices name="sentiment" toName="text" choice="multiple">
    <Choice value="Sarcastic"/>
    <Choice value="Not Sarcastic"/>
  </Choices>
</View>
"""
TASK = {"id": 1, "data": {"text": "I love it when my computer crashes"}}

MakeApp = Callable[..., "Backend"]


class Backend:
    """A real app and what a Label Studio would send to it."""

    def __init__(self, client: FlaskClient, services: Services) -> None:
        self.client: Any = client
        self.services = services

    def setup(self, config: str = CLASSIFICATION, project: str = PROJECT, extra_params: Any = None) -> Any:
        """Connects a project."""
        body = {"project": project, "schema": config, "extra_params": extra_params}
        return self.client.post("/setup", json=body)

    def predict(
        self,
        tasks: list[dict[str, Any]] | None = None,
        *,
        prompt: str | None = None,
        config: str = CLASSIFICATION,
        project: str = PROJECT,
        prompt_name: str = "prompt",
    ) -> Any:
        """An interactive request when there is a prompt, else a batch."""
        region = {"from_name": prompt_name, "type": "textarea", "value": {"text": [prompt]}}
        context = {"result": [region]} if prompt is not None else None
        body = {
            "tasks": [TASK] if tasks is None else tasks,
            "project": project,
            "label_config": config,
            "params": {"login": None, "password": None, "context": context},
        }
        return self.client.post("/predict", json=body)


@pytest.fixture(scope="session")
def _running_stub() -> Iterator[StubLLM]:
    with running_stub() as stub:
        yield stub


@pytest.fixture
def stub(_running_stub: StubLLM) -> StubLLM:
    """The stub LLM, with nothing remembered."""
    _running_stub.reset()
    return _running_stub


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL of Debian's package on loopback, with an empty data folder; the URL without a database."""
    with running_postgresql() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """An empty PostgreSQL database."""
    return new_database(postgresql_server)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    database = Database(url, tmp_path)
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> Jobs:
    """The work list in it."""
    return Jobs(database)


class Clocks:
    """What a database on SQLite takes for the time; a test sets it."""

    def __init__(self, folder: Path) -> None:
        self.wall, self.steady = 1_000_000.0, 5_000.0
        self.database = Database(None, folder, clock=lambda: self.wall, steady=lambda: self.steady)


@pytest.fixture
def clocks(tmp_path: Path) -> Iterator[Clocks]:
    """A database whose clocks the test sets."""
    clocks = Clocks(tmp_path)
    yield clocks
    clocks.database.close()


@pytest.fixture
def make_settings(stub: StubLLM, tmp_path: Path) -> Callable[..., Settings]:
    """Settings for an OpenAI provider that is the stub; more variables as keyword arguments."""

    def make(**variables: str) -> Settings:
        defaults = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": stub.url,
            "MODEL_DIR": str(tmp_path),
            "LLM_TIMEOUT": "5",
            "SHOW_ERRORS": "0",
        }
        return load_settings(defaults | variables, env_file=None)

    return make


@pytest.fixture
def make_backend(make_settings: Callable[..., Settings]) -> Iterator[MakeApp]:
    """Makes a real app; all those of one test share one `MODEL_DIR`, as after a restart."""
    opened: list[Services] = []

    def make(**variables: str) -> Backend:
        services = make_services(make_settings(**variables))
        opened.append(services)
        return Backend(create_app(InteractiveLLM, services).test_client(), services)

    yield make
    for services in opened:
        services.close()


@pytest.fixture
def backend(make_backend: MakeApp) -> Backend:
    """A real app with the default settings, asking the stub."""
    return make_backend()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says that skips fail the run, where they do."""
    if _skips_fail(terminalreporter.stats):
        terminalreporter.write_line("FAIL_ON_SKIP is set, and tests were skipped.", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With FAIL_ON_SKIP=1, as in CI, a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and _skips_fail(reporter.stats) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skips_fail(stats: dict[str, Any]) -> bool:
    return os.environ.get("FAIL_ON_SKIP") == "1" and bool(stats.get("skipped"))
