"""A real Label Studio for the tests: its REST API, and its labeling page in a browser."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, Response

from demo.label_studio import Credentials, LabelStudioApi, label_studio_process, new_credentials
from demo.servers import ServerProcess, on_a_free_port

Json = dict[str, Any]


class LabelStudio(LabelStudioApi):
    """A Label Studio with an empty database, and the calls of its REST API that the tests make."""

    def __init__(
        self, virtual_environment: Path, directory: Path, credentials: Credentials | None = None
    ) -> None:
        super().__init__(credentials or new_credentials("admin@example.com"))
        self._executable = virtual_environment / "bin" / "label-studio"
        self._directory = directory
        self._calls_local_addresses = True
        self._process: ServerProcess | None = None
        self._personal_access_token = ""

    def start(self) -> None:
        """Starts the server on a free port.

        Raises:
            ServerStartError: it does not start.
        """
        on_a_free_port(self._start_on)

    def stop(self) -> None:
        """Ends the server."""
        self.close()
        if self._process:
            self._process.stop()

    def protected_copy(self, directory: Path) -> "LabelStudio":
        """A copy with the same projects that refuses local addresses. It is not started yet."""
        copy = LabelStudio(self._executable.parents[1], directory, self.credentials)
        shutil.copytree(self._directory / "data", directory / "data")
        copy._calls_local_addresses = False
        return copy

    @property
    def email(self) -> str:
        """The email address of the first user."""
        return self.credentials.email

    @property
    def password(self) -> str:
        """The password of the first user."""
        return self.credentials.password

    @property
    def token(self) -> str:
        """The legacy token of the first user."""
        return self.credentials.token

    def personal_access_token(self) -> str:
        """The personal access token of the first user. A user may have only one: the first call makes it."""
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
        project = self.new_project(title, label_config)
        self.import_tasks(project, tasks)
        return project

    def create_project_of_files(self, title: str, label_config: str, files: Sequence[Path]) -> int:
        """Uploads the files into a new project, one task for each; returns its id."""
        project = self.new_project(title, label_config)
        for file in files:
            answer = self._session.post(
                f"{self.url}/api/projects/{project}/import",
                files={"file": (file.name, file.read_bytes(), "image/png")},
                timeout=180,
            )
            answer.raise_for_status()
        return project

    def add_local_files(self, project: int, folder: str) -> Path:
        """Makes a folder and connects it to the project as local storage; returns its path."""
        path = self._directory / "files" / folder
        path.mkdir(parents=True, exist_ok=True)
        storage = {"project": project, "path": str(path), "title": folder, "use_blob_urls": True}
        self._post("/api/storages/localfiles", storage)
        return path

    def model(self, project: int) -> Json:
        """The project's connected model. To answer, Label Studio calls the model's `/setup`."""
        (model,) = self.models(project)
        return model

    def change_config(self, project: int, label_config: str) -> None:
        """Saves another labeling config. The model gets it with Label Studio's next request."""
        answer = self._session.patch(
            f"{self.url}/api/projects/{project}", json={"label_config": label_config}, timeout=60
        )
        answer.raise_for_status()

    def predictions(self, project: int) -> list[Json]:
        """All predictions that are stored for the project's tasks."""
        return [prediction for task in self.tasks(project) for prediction in task["predictions"]]

    def prediction_count(self, project: int) -> int:
        """How many predictions are stored for the project."""
        return int(self._get(f"/api/projects/{project}")["total_predictions_number"])

    def labeling_url(self, project: int, task: int) -> str:
        """Address of the labeling page for a task."""
        return f"{self.url}/projects/{project}/data?task={task}"

    def _start_on(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = label_studio_process(
            self._executable, port, self.credentials, self._directory,
            calls_local_addresses=self._calls_local_addresses,
        )  # fmt: skip
        self._process.start(self.is_up, self._directory / f"label-studio-{port}.log")


class LabelingPage:
    """The labeling page of one task, with Auto-Annotation on."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url)
        page.get_by_test_id("textarea-control").first.wait_for()
        # The page draws the editor twice: from the list of tasks, then from the whole task. The second time
        # drops what was typed before.
        page.wait_for_load_state("networkidle")
        switch = page.get_by_test_id("bottombar-auto-annotation-toggle")
        switch.wait_for(state="attached")
        if not switch.is_checked():
            switch.dispatch_event("click")  # its label covers it, so a click does not reach it

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
        self.page.mouse.move(640, 700)  # buttons show while the mouse is over a text
        return dict(answer.value.json())

    def submit(self) -> None:
        """Presses Submit, and waits until the annotation is stored."""
        with self.page.expect_response(re.compile(r"/api/tasks/\d+/annotations")) as answer:
            self.page.get_by_role("button", name="Submit").click()
        answer.value.finished()

    def text(self, control: str) -> Locator:
        """The text in a TextArea. If the TextArea is empty, the locator finds nothing."""
        return self._region(control).get_by_test_id("htx-textbox-content")

    def choice(self, label: str) -> Locator:
        """The box of a choice."""
        return self.page.locator(f'input[name="{label}"]')

    def _region(self, control: str) -> Locator:
        content = self.page.locator(f'[name^="{control}:"]')
        return self.page.get_by_test_id("htx-textbox-view").filter(has=content)


def is_interactive(response: Response) -> bool:
    """Whether this answers an interactive request; Shift+Enter in the prompt makes one."""
    return bool(response.url.endswith("/interactive-annotating"))
