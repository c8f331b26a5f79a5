"""Fixtures: a real Label Studio, the server under gunicorn with the embedded model, and headless Chromium.

Label Studio needs a virtual environment of its own: `LABEL_STUDIO_VENV`, by default `.venv-label-studio` at
the repository's root. Screenshots go to `E2E_SCREENSHOTS`, by default `tests/e2e/screenshots`.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect, sync_playwright

from demo.backend import answers
from demo.servers import ServerProcess, on_a_free_port
from testkit.real_label_studio import LabelingPage, LabelStudio

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves the machine
]
SECONDS_ON_A_PAGE = 60  # for any one thing to show up, an answer of the embedded model included
SECONDS_TO_DRAW = 20  # for what follows from an answer to be on the page
SECONDS_FOR_A_TEST = 400  # the first one also waits for Label Studio's migrations


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test here more time than the other tests have."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SECONDS_FOR_A_TEST))


@pytest.fixture(scope="session", autouse=True)
def _end_as_on_ctrl_c() -> Iterator[None]:
    """On SIGTERM and SIGHUP too, servers and browser are ended."""

    def interrupt(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder for screenshots."""
    folder = Path(os.environ.get("E2E_SCREENSHOTS") or Path(__file__).parent / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A Label Studio with an empty database."""
    virtual_environment = ROOT / (os.environ.get("LABEL_STUDIO_VENV") or ".venv-label-studio")
    if not (virtual_environment / "bin" / "label-studio").exists():
        pytest.skip(f"no Label Studio in {virtual_environment}: `make e2e` installs it")
    server = LabelStudio(virtual_environment, tmp_path_factory.mktemp("label-studio"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Backend:
    """The server under test: gunicorn with the embedded model. Port and MODEL_DIR outlive a restart.

    `variables` are settings of its own, in place of the embedded model's.
    """

    def __init__(self, directory: Path, variables: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._variables = dict(variables or {})
        self._port: int | None = None
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it and waits for `/health`: on a free port the first time, on the same one later.

        Raises:
            ServerStartError: it does not start.
        """
        if self._port is None:
            on_a_free_port(self._start_on)
        else:
            self._start_on(self._port)

    def stop(self) -> None:
        """Ends it."""
        if self._process:
            self._process.stop()

    def restart(self) -> None:
        """Ends it and starts it again, with the same port and the same MODEL_DIR."""
        self.stop()
        self.start()

    def _start_on(self, port: int) -> None:
        self._port = port
        home = self._directory / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "HOME": str(home),
            "MODEL_DIR": str(self._directory / "model"),
            "OPENAI_PROVIDER": "embedded",
            "PORT": str(port),
            "TEMPERATURE": "0",  # the model says the same each time, on one machine
            **self._variables,
        }
        configured = {
            name for name, value in dotenv_values(ROOT / ".env").items() if value
        } - environment.keys()
        if configured:
            pytest.fail(
                f"move {ROOT / '.env'} away: the server under test would read {sorted(configured)} from it"
            )
        self._process = ServerProcess(
            [sys.executable, "-m", "gunicorn", "_wsgi:app"], environment=environment, directory=ROOT
        )
        self._process.start(lambda: answers(self.url), self._directory / "gunicorn.log")


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The server under test. What the tiny model says in plain text is known to name labels, or none."""
    server = Backend(tmp_path_factory.mktemp("backend"), {"RESPONSE_FORMAT": "text"})
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: install Debian's package chromium")
    expect.set_options(timeout=SECONDS_TO_DRAW * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_OPTIONS)
        try:
            yield chromium
        finally:
            chromium.close()


def _new_context(browser: Browser, signed_in: StorageState | None = None) -> BrowserContext:
    context = browser.new_context(viewport={"width": 1280, "height": 860}, storage_state=signed_in)
    context.set_default_timeout(SECONDS_ON_A_PAGE * 1000)
    return context


@pytest.fixture(scope="session")
def signed_in(browser: Browser, label_studio: LabelStudio) -> StorageState:
    """The cookies of a signed-in person."""
    with _new_context(browser) as context:
        page = context.new_page()
        page.goto(f"{label_studio.url}/user/login")
        page.locator('input[name="email"]').fill(label_studio.email)
        page.locator('input[name="password"]').fill(label_studio.password)
        page.locator('button[type="submit"]').click()
        page.wait_for_url(lambda url: "/login" not in url)
        return context.storage_state()


@pytest.fixture
def page(
    browser: Browser,
    signed_in: StorageState,
    screenshots: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Page]:
    """A signed-in browser's page. How it looks at the end of the test is kept as a screenshot."""
    with _new_context(browser, signed_in) as context:
        page = context.new_page()
        yield page
        name = re.sub(r"\W+", "-", str(request.node.name)).strip("-")
        page.screenshot(path=screenshots / f"{name}.png")


@pytest.fixture
def connected_project(label_studio: LabelStudio, backend: Backend) -> Callable[[str], int]:
    """Makes a new project of an example and connects the model to it."""

    def make(example: str) -> int:
        project = label_studio.create_project(ROOT / "examples" / example)
        answer = label_studio.connect(project, backend.url)
        assert answer.status_code == 201, answer.text
        return project

    return make


@pytest.fixture
def open_task(page: Page, label_studio: LabelStudio) -> Callable[[int], LabelingPage]:
    """Opens the first task of a project on the labeling page, with Auto-Annotation on."""

    def open_first(project: int) -> LabelingPage:
        task = label_studio.tasks(project)[0]["id"]
        return LabelingPage(page, label_studio.labeling_url(project, task))

    return open_first
