"""Label Studio's projects that have a model connected: can each of them work, and if not, why?"""

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from llm_backend.asking.question import make_question
from llm_backend.asking.shape import Shape
from llm_backend.checkup.findings import Finding, failed, found, ok, summary, warning, within
from llm_backend.errors import BackendError, StorageError, reason_phrase
from llm_backend.label_studio import files
from llm_backend.label_studio.client import Client
from llm_backend.label_studio.project_key import key_of
from llm_backend.labeling.config import LabelingConfig
from llm_backend.parameters import check_address, parse_extra_params, require_settings
from llm_backend.reading import FileReader
from llm_backend.services import Services
from llm_backend.settings import Settings
from llm_backend.storage import Project
from llm_backend.values import Json

_PROJECT_SECONDS = 60.0
_MOST_PROJECTS = 500
_SUBMISSIONS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}


class Projects:
    """The projects that the token's owner sees, the newest first."""

    def __init__(
        self, settings: Settings, services: Services, label_studio: Client, *, is_running: bool
    ) -> None:
        self._settings = settings
        self._services = services
        self._label_studio = label_studio
        self._is_running = is_running
        self._looked_at = 0

    def findings(self, seconds: float) -> Iterator[Finding]:
        """One for each project with a model; at most so many projects, and so long, as a check may take."""
        deadline = time.monotonic() + seconds
        has_model = False
        total = 0
        try:
            projects, total = within(seconds, self._label_studio.projects)
            while self._looked_at < _MOST_PROJECTS:
                left = deadline - time.monotonic()
                project = within(left, lambda: next(projects, None))
                if project is None:
                    break
                finding = self._look_at(project, min(_PROJECT_SECONDS, left))
                self._looked_at += 1
                if finding is not None:
                    has_model = True
                    yield finding
        except TimeoutError:
            yield warning(f"projects: the time is up after {self._looked_at} of {total or 'all'} projects")
        except BackendError as error:
            yield failed(f"projects: {error.reason}")
        else:
            if self._looked_at < total:
                yield warning(f"projects: only the newest {self._looked_at} of {total} were looked at")
            if not has_model:
                yield found("projects", deadline - time.monotonic(), self._none_connected)

    def _none_connected(self) -> Finding:
        address = f"http://localhost:{self._settings.port}"
        refused = self._label_studio.refused_address(address)
        return warning(
            f"projects: none has a model connected; add this server in Settings > Model, such as {address}"
            + (f". {refused}" if refused else "")
        )

    def _look_at(self, project: Json, seconds: float) -> Finding | None:
        """What is found of the project, or None when it has no model."""
        name = f'project {project["id"]} "{project.get("title") or ""}"'
        none_connected = Finding("ok", "")

        def look() -> Finding:
            models = self._label_studio.models(project["id"])
            if not models:
                return none_connected
            looked_at = tuple(self._model(project, name, model) for model in models)
            if len(looked_at) == 1:
                return looked_at[0]
            return summary(f"{name} has {len(models)} models:", looked_at)

        finding = found(name, seconds, look)
        return None if finding is none_connected else finding

    def _model(self, project: Json, name: str, model: Json) -> Finding:
        """What is found of one model of the project."""
        url = _shown(str(model.get("url") or ""))
        key = str(key_of(project) or "")
        known = self._known(key)
        disconnected = model.get("state") == "DI"
        if known.label_config is None and _port(url) != self._settings.port:
            other = f"{name}: the model {url} is not on this server's port {self._settings.port}, not checked"
            return warning(f"{other}; Label Studio cannot reach it") if disconnected else ok(other)
        problems = list(self._connection(model, url))
        prompt = "the one used last" if known.prompt else "the default prompt"
        try:
            shape = self._shape(project, model, known)
        except BackendError as error:
            told = reason_phrase(error.reason)  # which Label Studio may have kept
            problems = [problem for problem in problems if told not in problem.text]
            problems.append(failed(error.reason))
        else:
            problems += self._labeling_config(self._services.shapes.config(_label_config(project)))
            problems += self._first_task(project, shape, self._files_of(key, known))
            if shape.prompt is None:
                prompt = "none"
                problems.append(
                    warning("Retrieve Predictions has no prompt: use one in a task, or set DEFAULT_PROMPT")
                )
            if _has_other_version(model, shape):
                problems.append(
                    warning(
                        f"Label Studio holds version {model['model_version']}, these settings make "
                        f"{shape.model_version}: start the server again, or another one answers there"
                    )
                )
        problems += self._webhook(project, model, url)
        if not model.get("is_interactive"):
            problems.append(
                warning("Shift+Enter does nothing: switch Interactive preannotations on in Settings > Model")
            )
        state = model.get("readable_state") or model.get("state")
        return summary(f"{name}: {state} at {url}, prompt of batches: {prompt}", tuple(problems))

    def _connection(self, model: Json, url: str) -> Iterator[Finding]:
        """Why Label Studio cannot use the model, as far as that is about addresses and passwords."""
        user = self._settings.basic_auth_user
        same_user = model.get("basic_auth_user") == user and model.get("basic_auth_pass_is_set")
        said = _reason(str(model.get("error_message") or ""))
        if user is not None and not same_user:
            yield failed(
                "the server asks for Basic auth: type its user and password in Settings > Model "
                f"(there is {'another user' if model.get('basic_auth_user') else 'none'} now)"
            )
        elif user is None and model.get("basic_auth_pass_is_set"):
            yield warning(
                "Settings > Model has a password, but the server asks for none: set BASIC_AUTH_USER and _PASS"
            )
        elif model.get("state") == "ER" and said.startswith("401"):
            yield failed("the password in Settings > Model is not that of BASIC_AUTH_PASS")
        elif model.get("state") == "ER":
            yield failed(f"Label Studio says: {said}")
        if model.get("state") != "DI":
            return
        # For a model that it does not reach, Label Studio keeps the message of an earlier error.
        refused = self._label_studio.refused_address(str(model.get("url") or ""))
        if refused:
            yield failed(refused)
        elif self._is_running:
            yield failed(
                f"Label Studio does not reach {url}, though the server runs here: the address must lead here "
                "from Label Studio's machine or container (host.docker.internal instead of localhost)"
            )
        else:
            yield warning("Label Studio reaches nobody there: start the server, and check again")

    def _shape(self, project: Json, model: Json, known: Project) -> Shape:
        """What would shape the answers for the project's tasks.

        Raises:
            BackendError: the labeling config, the extra params or the settings cannot work.
        """
        shapes = self._services.shapes
        extra = parse_extra_params(model.get("extra_params")).as_json()
        shape = shapes.shape(_label_config(project), extra, known.prompt)
        parameters = shapes.parameters(extra)
        require_settings(parameters)
        check_address(parameters, self._settings)
        return shape

    def _files_of(self, key: str, known: Project) -> files.LabelStudio | None:
        return files.label_studio_for(
            self._settings, key, setup_url=known.label_studio_url, setup_token=known.label_studio_token
        )

    def _labeling_config(self, config: LabelingConfig) -> Iterator[Finding]:
        """Controls that are not filled though somebody may expect it."""
        for control in config.left_alone:
            yield warning(f"not filled: {control}")
        for tag in config.interface.controls or ():
            to_names = [str(name).strip() for name in tag.to_name or ()]
            wanted = str(tag.get_attr("llm", "")).lower()
            expected = wanted == "true" or (tag.tag or "").lower() in ("choices", "textarea")
            if expected and wanted != "false" and config.source.name not in to_names:
                yield warning(
                    f'not filled: {tag.tag} {tag.name} has toName="{",".join(to_names)}", '
                    f'the prompt has toName="{config.source.name}"'
                )

    def _first_task(
        self, project: Json, shape: Shape, label_studio: files.LabelStudio | None
    ) -> Iterator[Finding]:
        """Whether what the labeling config and the prompt name is in the first task, files included."""
        task = self._label_studio.first_task(project["id"])
        if task is None:
            yield warning("it has no tasks yet: import some")
            return
        with TemporaryDirectory() as folder:  # what is read must not get into the server's cache
            reader = FileReader(self._settings.model_copy(update={"model_dir": Path(folder)}))
            try:
                asked = replace(shape, prompt=shape.prompt or "?")
                make_question(asked, task.get("data") or {}, reader, label_studio)
            except BackendError as error:
                yield failed(f"task {task.get('id')}: {error.reason}")
            finally:
                reader.close()

    def _webhook(self, project: Json, model: Json, url: str) -> Iterator[Finding]:
        """Whether Label Studio tells of submitted annotations. Used prompts are known without it."""
        address = str(model.get("url") or "").rstrip("/") + "/webhook"
        hooks = self._label_studio.webhooks(project["id"])
        problems = [
            self._webhook_problem(hook) for hook in hooks if str(hook.get("url")).rstrip("/") == address
        ]
        if problems and None in problems:
            return
        why = next(filter(None, problems), f"is missing: add {url}/webhook in Settings > Webhooks")
        text = f"the webhook {why}; without it submitted prompts are not remembered"
        if self._settings.remember_prompt == "submitted":
            yield failed(f"{text}, and REMEMBER_PROMPT=submitted remembers no others")
        else:
            yield warning(f"{text}, only used ones")

    def _webhook_problem(self, hook: Json) -> str | None:
        if not hook.get("is_active"):
            return "is switched off: switch it on in Settings > Webhooks"
        actions = set(map(str, hook.get("actions") or ()))
        if not hook.get("send_payload") or not (hook.get("send_for_all_actions") or actions >= _SUBMISSIONS):
            return "does not send annotations: let it send the payload for created and updated annotations"
        if not self._settings.webhook_is_trusted and not self._has_credentials(hook):
            return (
                "has no credentials: add the header Authorization: Basic <base64 of user:password> in "
                "Settings > Webhooks, or set WEBHOOK_UPDATES_PROMPT=1"
            )
        return None

    def _has_credentials(self, hook: Json) -> bool:
        password = self._settings.basic_auth_pass
        pair = f"{self._settings.basic_auth_user}:{password.get_secret_value() if password else ''}"
        expected = f"basic {base64.b64encode(pair.encode()).decode()}"
        headers = hook.get("headers") or {}
        given = [str(value) for name, value in headers.items() if str(name).lower() == "authorization"]
        return any(value[:6].lower() + value[6:] == expected for value in given)

    def _known(self, key: str) -> Project:
        """What this server remembers of the project; nothing before its first start."""
        file = self._services.database.file
        if file is not None and not file.exists():
            return Project()
        try:
            return self._services.projects.get(key)
        except StorageError:  # which is a finding of its own
            return Project()


def _label_config(project: Json) -> str:
    return str(project.get("label_config") or "")


def _has_other_version(model: Json, shape: Shape) -> bool:
    """Whether the model that Label Studio has just asked is of other settings than these."""
    version = model.get("model_version")
    asked_now = model.get("state") == "CO" and model.get("auto_update") is not False
    return bool(asked_now and version and version != shape.model_version)


def _reason(message: str) -> str:
    """The sentence of ours in what Label Studio made of an answer: `422 Client Error: ... for url: ...`."""
    told = message.partition(" for url: ")[0]
    return told.partition(" Client Error: ")[2] if told.startswith("422") else told


def _shown(url: str) -> str:
    """The address without a password in it."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}".rstrip("/")


def _port(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
