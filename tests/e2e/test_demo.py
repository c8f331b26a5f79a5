"""`make demo`: started in an empty folder, used in a browser, started again, and ended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from demo.label_studio import LabelStudioApi
from demo.projects import EXAMPLES
from demo.servers import free_port
from demo.state import State
from testkit.real_label_studio import LabelingPage
from tests.e2e.conftest import ROOT

_SECONDS_TO_START = 300
_SECONDS_TO_END = 60


class RunningDemo:
    """`python -m demo` in a folder, and what it has said so far."""

    def __init__(self, folder: Path, label_studio: Path) -> None:
        self.folder = folder
        self._label_studio = label_studio
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Starts it, and waits until it says how it is ended."""
        self._process = self.run(*options)
        deadline = time.monotonic() + _SECONDS_TO_START
        while "Ctrl-C ends it" not in self.said:
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.2)

    def run(self, *options: str) -> "subprocess.Popen[bytes]":
        """Starts it, whatever becomes of it."""
        environment = {**os.environ, "OPENAI_PROVIDER": "embedded", "TEMPERATURE": "0"}
        command = [sys.executable, "-m", "demo", "--no-browser", "--folder", str(self.folder), *options]
        with (self.folder.parent / "said").open("wb") as said:
            return subprocess.Popen(
                [*command, "--label-studio", str(self._label_studio)],
                cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def ended(self) -> int:
        """Waits until it has ended; its exit status."""
        assert self._process is not None
        return self._process.wait(_SECONDS_TO_END)

    def stop(self) -> int:
        """Sends SIGTERM and waits; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.ended()

    @property
    def said(self) -> str:
        """What it has printed."""
        return (self.folder.parent / "said").read_text()

    @property
    def servers(self) -> list[int]:
        """The process ids of Label Studio and the backend."""
        return list(json.loads((self.folder / "lock").read_text())["servers"])

    @property
    def api(self) -> LabelStudioApi:
        """Its Label Studio."""
        return LabelStudioApi(State(self.folder).credentials(), self.shown("Label Studio"))

    def shown(self, name: str) -> str:
        """What stands beside a name in the block that it prints."""
        found = re.search(rf"^    {name} +(\S+)$", self.said, re.MULTILINE)
        assert found, self.said
        return found[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """A demo that has had its first start; each test here leaves it running."""
    virtual_environment = ROOT / (os.environ.get("LABEL_STUDIO_VENV") or ".venv-label-studio")
    if not (virtual_environment / "bin" / "label-studio").exists():
        pytest.skip(f"no Label Studio in {virtual_environment}: `make e2e` installs it")
    running = RunningDemo(tmp_path_factory.mktemp("demo") / "state", virtual_environment / "bin/label-studio")
    try:
        running.start("--port", str(free_port()), "--backend-port", str(free_port()))
        yield running
    finally:
        running.stop()


@pytest.fixture
def visitor(browser: Browser, demo: RunningDemo) -> Iterator[Page]:
    """A page on which somebody has signed in as the demo has said."""
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        page = context.new_page()
        page.goto(demo.shown("Label Studio"))
        page.locator('input[name="email"]').fill(demo.shown("User"))
        page.locator('input[name="password"]').fill(demo.shown("Password"))
        page.locator('button[type="submit"]').click()
        page.wait_for_url(lambda url: "/login" not in url)
        yield page


def project_of(demo: RunningDemo, example: str) -> int:
    """The id of an example's project."""
    return State(demo.folder).projects()[example].project


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_projects_are_there(demo: RunningDemo, visitor: Page, screenshots: Path) -> None:
    """All four, filled, connected for Shift+Enter, with a prediction for the first task of each."""
    visitor.goto(f"{demo.shown('Label Studio')}/projects")
    for title in EXAMPLES.values():
        expect(visitor.get_by_text(title, exact=True)).to_be_visible()
    visitor.wait_for_load_state("networkidle")
    visitor.screenshot(path=screenshots / "demo-projects.png")
    for example in EXAMPLES:
        project = project_of(demo, example)
        [model] = demo.api.models(project)
        assert (model["readable_state"], model["is_interactive"]) == ("Connected", True)
        tasks = demo.api.tasks(project)
        assert len(tasks) == len(json.loads((ROOT / "examples" / example / "tasks.json").read_text()))
        assert [bool(task["predictions"]) for task in tasks[:3]] == [True, False, False]


def test_shift_enter_is_answered(demo: RunningDemo, visitor: Page, screenshots: Path) -> None:
    """A task opens with a prompt and a response in it; another prompt gets another response."""
    project = project_of(demo, "text-classification")
    first = demo.api.tasks(project)[0]
    address = f"{demo.shown('Label Studio')}/projects/{project}/data?task={first['id']}"
    labeling = LabelingPage(visitor, address)
    prompt = (ROOT / "examples/text-classification/prompt.txt").read_text().strip()
    expect(labeling.text("prompt")).to_have_text(prompt)
    expect(labeling.text("response")).not_to_be_empty()
    before = labeling.text("response").inner_text()
    answer = labeling.ask("Explain in one sentence why this text is not sarcastic.")
    [response] = (region for region in answer["data"]["result"] if region["from_name"] == "response")
    expect(labeling.text("response")).to_have_text(response["value"]["text"][0])
    assert labeling.text("response").inner_text() != before
    visitor.screenshot(path=screenshots / "demo-text-classification.png")


def test_a_receipt_is_read(demo: RunningDemo, visitor: Page, screenshots: Path) -> None:
    """The picture is shown, and what was read of it is in the summary, before anybody has asked."""
    visitor.set_viewport_size({"width": 1440, "height": 720})
    project = project_of(demo, "document-images")
    task = demo.api.tasks(project)[0]["id"]
    labeling = LabelingPage(visitor, f"{demo.shown('Label Studio')}/projects/{project}/data?task={task}")
    expect(visitor.locator(".lsf-image img")).to_have_js_property("naturalWidth", 480)
    expect(labeling.text("summarization-response")).to_contain_text("green leaf", ignore_case=True)
    expect(visitor.get_by_test_id("bottombar-auto-annotation-toggle")).to_be_checked()
    visitor.screenshot(path=screenshots / "demo.png", animations="disabled")


def test_a_second_start_at_the_same_time_shows_the_first(demo: RunningDemo) -> None:
    """It says how to get in, again, and ends with 0."""
    said = demo.said
    second = demo.run()
    assert second.wait(_SECONDS_TO_END) == 0
    assert "already running" in demo.said
    assert demo.shown("Password") in said
    (demo.folder.parent / "said").write_text(said)


def test_the_next_start_changes_nothing_of_a_persons(demo: RunningDemo) -> None:
    """No project twice; a renamed one stays renamed, a deleted one is made again, all follow the backend."""
    projects = {example: project_of(demo, example) for example in EXAMPLES}
    password, backend = demo.shown("Password"), demo.shown("Backend")
    renamed, deleted = (
        f"{demo.shown('Label Studio')}/api/projects/{projects[example]}"
        for example in ("response-evaluation", "chat-fine-tuning")
    )
    token = {"Authorization": f"Token {demo.api.credentials.token}"}
    requests.patch(renamed, {"title": "Mine"}, headers=token, timeout=60).raise_for_status()
    requests.delete(deleted, headers=token, timeout=60).raise_for_status()
    predictions = [len(task["predictions"]) for task in demo.api.tasks(projects["text-classification"])]
    assert demo.stop() == 0

    demo.start("--port", str(free_port()), "--backend-port", str(free_port()))

    assert (demo.shown("Password"), demo.shown("Backend") != backend) == (password, True)
    again = {example: project_of(demo, example) for example in EXAMPLES}
    assert {example for example in EXAMPLES if again[example] != projects[example]} == {"chat-fine-tuning"}
    titles = [project["title"] for project in demo.api.projects()]
    assert sorted(titles) == ["Chat fine-tuning", "Document images", "Mine", "Text classification"]
    for project in again.values():
        assert [model["url"] for model in demo.api.models(project)] == [demo.shown("Backend")]
        assert [hook["url"] for hook in demo.api.webhooks(project)] == [f"{demo.shown('Backend')}/webhook"]
    tasks = demo.api.tasks(projects["text-classification"])
    assert [len(task["predictions"]) for task in tasks] == predictions


def test_when_a_server_dies_the_other_is_ended(demo: RunningDemo) -> None:
    """The demo says which, shows the end of its log, and leaves nothing running."""
    label_studio, backend = demo.servers
    os.kill(backend, signal.SIGTERM)
    assert demo.ended() == 1
    assert "Backend has ended by itself" in demo.said
    assert "backend.log" in demo.said
    assert not is_alive(label_studio)
    demo.start("--port", str(free_port()), "--backend-port", str(free_port()))


def test_sigterm_ends_all_of_it(demo: RunningDemo) -> None:
    """No process of it is left, and its ports are free."""
    servers = demo.servers
    assert demo.stop() == 0
    assert [server for server in servers if is_alive(server)] == []
    demo.start("--port", str(free_port()), "--backend-port", str(free_port()))
