"""A real Label Studio for the tests: its process, its REST API, and its labeling page in a browser."""

import atexit
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Locator, Page, Response

Json = dict[str, Any]

_SECONDS_TO_START = 240  # the first start runs some 400 migrations
_SECONDS_TO_POST = 900  # thousands of tasks are imported and predicted in one request
_SECONDS_TO_STOP = 35  # a little more than gunicorn's graceful timeout
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class ServerStartError(Exception):
    """A server did not start. `port_was_taken` says that another port is worth a try."""

    def __init__(self, message: str, *, port_was_taken: bool = False) -> None:
        super().__init__(message)
        self.port_was_taken = port_was_taken


class ServerProcess:
    """A server in a process group of its own, which is ended as a whole."""

    def __init__(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str], directory: Path
    ) -> None:
        self._command = [str(part) for part in command]
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._environment = {**kept, **environment}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, is_up: Callable[[], bool], log: Path) -> None:
        """Starts the server and waits until it is up.

        Raises:
            ServerStartError: it ended, or was not up in time; the message holds the end of its log.
        """
        atexit.register(self.stop)
        with log.open("ab") as output:
            said_before = output.tell()
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + _SECONDS_TO_START
            while not is_up():
                said = log.read_bytes()[said_before:].decode("utf-8", "replace")
                went_elsewhere = re.search(r"Port \d+ is in use", said)  # Label Studio takes the next port
                if went_elsewhere or self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerStartError(
                        f"{' '.join(self._command[:4])} did not start:\n{said[-3000:]}",
                        port_was_taken=bool(went_elsewhere) or "Connection in use" in said,
                    )
                time.sleep(0.2)
        except BaseException:  # Ctrl-C as well: nothing may be left running
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the whole process group; does nothing when it has ended."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        try:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_STOP)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """A port of all interfaces that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def on_a_free_port(start: Callable[[int], None]) -> int:
    """Calls `start` with a free port, and with another one when somebody was faster. Returns the port."""
    for _ in range(4):
        port = free_port()
        try:
            start(port)
        except ServerStartError as error:
            if not error.port_was_taken:
                raise
        else:
            return port
    raise ServerStartError("Four ports in a row were taken")


class LabelStudio:
    """A Label Studio with an empty database, and what these tests ask of its REST API."""

    email = "admin@example.com"

    def __init__(self, virtual_environment: Path, directory: Path) -> None:
        self._executable = virtual_environment / "bin" / "label-studio"
        self._directory = directory
        self._calls_local_addresses = True
        self._token = secrets.token_hex(20)
        self._process: ServerProcess | None = None
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy may stand between here and loopback
        self._session.headers["Authorization"] = f"Token {self._token}"
        self._personal_access_token = ""
        self.password = secrets.token_hex(16)
        self.url = ""

    def start(self) -> None:
        """Starts the server on a free port.

        Raises:
            ServerStartError: it does not start.
        """
        on_a_free_port(self._start_on)

    def stop(self) -> None:
        """Ends the server."""
        self._session.close()
        if self._process:
            self._process.stop()

    def protected_copy(self, directory: Path) -> "LabelStudio":
        """Another one with this one's projects that does not call local addresses; not started."""
        copy = LabelStudio(self._executable.parents[1], directory)
        shutil.copytree(self._directory / "data", directory / "data")
        copy._calls_local_addresses = False
        copy._token, copy.password = self._token, self.password
        copy._session.headers["Authorization"] = f"Token {self._token}"
        return copy

    @property
    def token(self) -> str:
        """The legacy token of the first user."""
        return self._token

    def personal_access_token(self) -> str:
        """The personal access token of the first user, who may have only one; made at the first call."""
        if not self._personal_access_token:
            self._post("/api/jwt/settings", {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True})
            self._personal_access_token = str(self._post("/api/token/", {})["token"])
        return self._personal_access_token

    def delete_task(self, task: int) -> None:
        """Deletes a task."""
        self._session.delete(f"{self.url}/api/tasks/{task}", timeout=60).raise_for_status()

    def create_project(self, example: Path) -> int:
        """A project with the labeling config and the tasks of an example's folder; returns its id."""
        label_config = (example / "label_config.xml").read_text(encoding="utf-8")
        tasks = json.loads((example / "tasks.json").read_text(encoding="utf-8"))
        return self.create_project_of(example.name, label_config, tasks)

    def create_project_of(self, title: str, label_config: str, tasks: list[Json]) -> int:
        """A project with this labeling config and these tasks; returns its id."""
        project: int = self._post("/api/projects", {"title": title, "label_config": label_config})["id"]
        imported = self._post(f"/api/projects/{project}/import", tasks)
        if imported["task_count"] != len(tasks):
            raise ValueError(f"{imported['task_count']} of {len(tasks)} tasks were imported")
        return project

    def create_project_of_files(self, title: str, label_config: str, files: Sequence[Path]) -> int:
        """A project with one task for each file, which is uploaded; returns its id."""
        project: int = self._post("/api/projects", {"title": title, "label_config": label_config})["id"]
        for file in files:
            answer = self._session.post(
                f"{self.url}/api/projects/{project}/import",
                files={"file": (file.name, file.read_bytes(), "image/png")},
                timeout=180,
            )
            _json(answer)
        return project

    def add_local_files(self, project: int, folder: str) -> Path:
        """Makes a folder of Label Studio's machine a storage of the project; returns where to put files."""
        path = self._directory / "files" / folder
        path.mkdir(parents=True, exist_ok=True)
        storage = {"project": project, "path": str(path), "title": folder, "use_blob_urls": True}
        self._post("/api/storages/localfiles", storage)
        return path

    def connect(self, project: int, backend_url: str) -> requests.Response:
        """Connects a model for interactive use, as "Validate and Save" on the model page does."""
        model = {"url": backend_url, "project": project, "title": "llm", "is_interactive": True}
        return self._session.post(f"{self.url}/api/ml", json=model, timeout=60)

    def model(self, project: int) -> Json:
        """The project's connected model, whose `/setup` Label Studio asks again for this."""
        (model,) = self._get("/api/ml", project=project)
        return dict(model)

    def change_config(self, project: int, label_config: str) -> None:
        """Saves another labeling config; Label Studio tells the model when it asks next."""
        answer = self._session.patch(
            f"{self.url}/api/projects/{project}", json={"label_config": label_config}, timeout=60
        )
        answer.raise_for_status()

    def tasks(self, project: int) -> list[Json]:
        """The project's tasks in order, with their predictions."""
        answer = self._get("/api/tasks", project=project, fields="all", page_size=100)
        return sorted(answer["tasks"], key=lambda task: int(task["id"]))

    def predictions(self, project: int) -> list[Json]:
        """All predictions that are stored for the project's tasks."""
        return [prediction for task in self.tasks(project) for prediction in task["predictions"]]

    def prediction_count(self, project: int) -> int:
        """How many predictions are stored for the project."""
        return int(self._get(f"/api/projects/{project}")["total_predictions_number"])

    def retrieve_predictions(self, project: int) -> None:
        """What Data Manager → Retrieve Predictions does, for all tasks."""
        self._post(
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
            {"selectedItems": {"all": True, "excluded": []}},
        )

    def labeling_url(self, project: int, task: int) -> str:
        """Address of the labeling page for a task."""
        return f"{self.url}/projects/{project}/data?task={task}"

    def _start_on(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        home = self._directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        protected = "false" if self._calls_local_addresses else "true"
        self._process = ServerProcess(
            [self._executable, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
             "--username", self.email, "--password", self.password, "--user-token", self._token],
            environment={
                "HOME": str(home),
                "LABEL_STUDIO_BASE_DATA_DIR": str(self._directory / "data"),
                "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
                "LOCAL_FILES_SERVING_ENABLED": "true",
                "LOCAL_FILES_DOCUMENT_ROOT": str(self._directory / "files"),
                "ML_BLOCK_LOCAL_IP": protected,  # "false": a backend on loopback may be connected
                "SSRF_PROTECTION_ENABLED": protected,
                "COLLECT_ANALYTICS": "false",  # and with these four, nothing leaves the machine
                "LATEST_VERSION_CHECK": "false",
                "SENTRY_DSN": "",
                "FRONTEND_SENTRY_DSN": "",
                "PYTHONUNBUFFERED": "1",  # so that the log says at once that the port is in use
            },
            directory=self._directory,
        )  # fmt: skip
        self._process.start(self._is_up, self._directory / f"label-studio-{port}.log")

    def _is_up(self) -> bool:
        """Whether this very Label Studio answers: no other knows the token."""
        try:
            answer = self._session.get(f"{self.url}/api/current-user/whoami", timeout=10)
            return answer.ok and answer.json()["email"] == self.email
        except requests.RequestException:
            return False

    def _get(self, path: str, **parameters: Any) -> Any:
        return _json(self._session.get(self.url + path, params=parameters, timeout=60))

    def _post(self, path: str, body: Any) -> Any:
        return _json(self._session.post(self.url + path, json=body, timeout=_SECONDS_TO_POST))


def _json(answer: requests.Response) -> Any:
    if not answer.ok:
        raise requests.HTTPError(
            f"{answer.status_code} for {answer.url}: {answer.text[:2000]}", response=answer
        )
    return answer.json()


class LabelingPage:
    """The labeling page of one task, with Auto-Annotation on."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url)
        page.get_by_test_id("textarea-control").first.wait_for()
        # The editor is drawn twice, from the list of tasks and from the whole task; what is typed before
        # the second time is lost.
        page.wait_for_load_state("networkidle")
        switch = page.get_by_test_id("bottombar-auto-annotation-toggle")
        switch.wait_for(state="attached")
        if not switch.is_checked():
            switch.dispatch_event("click")  # it is drawn by its label, and cannot be clicked itself

    def ask(self, prompt: str) -> Json:
        """Types the prompt, or edits the one that is there, and presses Shift+Enter.

        Returns what Label Studio answers: `data` is a prediction, or `errors` says what failed.
        """
        written = self._region("prompt")
        if written.count():
            written.hover()
            written.get_by_test_id("htx-textbox-edit-button").click()
        box = self.page.locator('textarea[name^="prompt"]').first
        box.fill(prompt)
        with self.page.expect_response(is_interactive) as answer:
            box.press("Shift+Enter")
        self.page.mouse.move(640, 700)  # away from the buttons that show while the mouse is over a text
        return dict(answer.value.json())

    def submit(self) -> None:
        """Presses Submit, and waits until the annotation is stored."""
        with self.page.expect_response(re.compile(r"/api/tasks/\d+/annotations")) as answer:
            self.page.get_by_role("button", name="Submit").click()
        answer.value.finished()

    def text(self, control: str) -> Locator:
        """The text that stands in a TextArea; none when it is empty."""
        return self._region(control).get_by_test_id("htx-textbox-content")

    def choice(self, label: str) -> Locator:
        """The box of a choice."""
        return self.page.locator(f'input[name="{label}"]')

    def _region(self, control: str) -> Locator:
        content = self.page.locator(f'[name^="{control}:"]')
        return self.page.get_by_test_id("htx-textbox-view").filter(has=content)


def is_interactive(response: Response) -> bool:
    """Whether this answers an interactive request, such as Shift+Enter in the prompt makes."""
    return bool(response.url.endswith("/interactive-annotating"))
