"""Makes, fills and connects the example projects of the demo, and repairs them at a later start."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from demo.errors import DemoError
from demo.label_studio import Json, LabelStudioApi
from demo.state import MadeProject, State

EXAMPLES = {
    "text-classification": "Text classification",
    "response-evaluation": "Response evaluation",
    "chat-fine-tuning": "Chat fine-tuning",
    "document-images": "Document images",
}
_FOLDER = Path(__file__).resolve().parent.parent / "examples"
_DESCRIPTION = (
    "Open a task and switch Auto-Annotation on, at the bottom. Then edit the prompt and press Shift+Enter. "
    "Select tasks and choose Actions > Retrieve Predictions: the same prompt labels them all."
)
_MODEL_TITLE = "LLM"
_TASKS_AHEAD = 1  # somebody waits for the first start; Label Studio asks when a task is opened


class ExampleProjects:
    """The example projects in one Label Studio, connected to one backend.

    `basic_auth` are Label Studio's names for user and password of the backend, where it has them.
    """

    def __init__(
        self, label_studio: LabelStudioApi, state: State, backend_url: str, basic_auth: Mapping[str, str]
    ) -> None:
        self._label_studio = label_studio
        self._state = state
        self._backend_url = backend_url
        self._basic_auth = {"auth_method": "BASIC_AUTH", **basic_auth} if basic_auth else {}

    def set_up(self, say: Callable[[str], None], *, ask_ahead: bool) -> None:
        """Makes what is missing. Changes that a person has made stay.

        A project that was deleted is made again. With `ask_ahead`, the model is asked for the first task of
        a new project; without, it is asked for nothing before a person does.

        Raises:
            DemoError: a model cannot be connected, for the reason that the backend gives.
        """
        known = self._state.projects()
        existing = {project["id"]: project for project in self._label_studio.projects()}
        for example, title in EXAMPLES.items():
            made = known.get(example)
            if made is None or made.project not in existing:
                say(f"Making the project {title}")
                adopted = self._left_by_a_start_that_ended(title, existing) if made is None else None
                made = known[example] = MadeProject(adopted or self._new_project(example, title))
                self._state.keep_projects(known)
            if made.finished:
                self._follow_the_backend(made)
                continue
            self._finish(example, made, ask_ahead=ask_ahead)
            self._state.keep_projects(known)

    def _left_by_a_start_that_ended(self, title: str, existing: Mapping[int, Json]) -> int | None:
        """The id of a project that an earlier start made, but did not write to `projects.json`."""
        return next((number for number, project in existing.items() if project["title"] == title), None)

    def _new_project(self, example: str, title: str) -> int:
        label_config = (_FOLDER / example / "label_config.xml").read_text(encoding="utf-8")
        return self._label_studio.new_project(title, label_config, _DESCRIPTION)

    def _finish(self, example: str, made: MadeProject, *, ask_ahead: bool) -> None:
        """Does the steps that are left for a project. An earlier start may have done some."""
        label_studio = self._label_studio
        if not label_studio.tasks(made.project):
            tasks = json.loads((_FOLDER / example / "tasks.json").read_text(encoding="utf-8"))
            label_studio.import_tasks(made.project, tasks)
        models = label_studio.models(made.project)
        if models:
            made.model = int(models[0]["id"])
            self._follow_the_backend(made)
        else:
            made.model = self._connect(example, made.project)
        if ask_ahead:
            first = [int(task["id"]) for task in label_studio.tasks(made.project)[:_TASKS_AHEAD]]
            label_studio.retrieve_predictions(made.project, first)
        made.finished = True

    def _connect(self, example: str, project: int) -> int:
        prompt = (_FOLDER / example / "prompt.txt").read_text(encoding="utf-8").strip()
        answer = self._label_studio.connect(
            project,
            self._backend_url,
            _MODEL_TITLE,
            extra_params={"default_prompt": prompt, "use_internal_prompt_template": True},
            **self._basic_auth,
        )
        return int(_accepted(answer)["id"])

    def _follow_the_backend(self, made: MadeProject) -> None:
        """Changes the backend's address in the project. A model that a person has removed stays removed."""
        for model in self._label_studio.models(made.project):
            if model["id"] != made.model:
                continue
            old, new = model["url"], self._backend_url
            if old != new:
                self._label_studio.move_webhook(made.project, f"{old}/webhook", f"{new}/webhook")
            if old != new or self._basic_auth:
                _accepted(self._label_studio.change_model(model, url=new, **self._basic_auth))


def _accepted(answer: requests.Response) -> Json:
    """The model in Label Studio's answer.

    Raises:
        DemoError: Label Studio refused the model; the message has its reason.
    """
    if answer.ok:
        return dict(answer.json())
    raise DemoError(f"Label Studio does not take the model: {answer.text[:1000]}")
