"""Label Studio for the demo and the tests: its process and its REST API."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from demo.errors import DemoError
from demo.servers import ServerProcess

Json = dict[str, Any]

_SECONDS_TO_POST = 900  # thousands of tasks are imported and predicted in one request


@dataclass(frozen=True, slots=True)
class Credentials:
    """The first user of a Label Studio, with password and legacy token."""

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    def variables(self) -> dict[str, str]:
        """The environment variables that make Label Studio create this user at its start."""
        return {
            "LABEL_STUDIO_USERNAME": self.email,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
        }


def new_credentials(email: str) -> Credentials:
    """A user with a random password and a random token."""
    return Credentials(email, secrets.token_urlsafe(12), secrets.token_hex(20))


class LabelStudioApi:
    """The calls of Label Studio's REST API that the demo and the tests make, as the first user."""

    def __init__(self, credentials: Credentials, url: str = "") -> None:
        self.credentials = credentials
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy may stand between here and loopback
        self._session.headers["Authorization"] = f"Token {credentials.token}"

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def is_up(self) -> bool:
        """Whether this Label Studio answers. Another one would not know the token."""
        try:
            answer = self._session.get(f"{self.url}/api/current-user/whoami", timeout=10)
            return answer.ok and bool(answer.json()["email"])
        except requests.RequestException:
            return False

    def refuses_the_token(self) -> bool:
        """Whether a Label Studio answers and refuses the token."""
        try:
            return self._session.get(f"{self.url}/api/current-user/whoami", timeout=10).status_code == 401
        except requests.RequestException:
            return False

    def new_project(self, title: str, label_config: str, description: str = "") -> int:
        """An empty project; returns its id."""
        body = {"title": title, "label_config": label_config, "description": description}
        return int(self._post("/api/projects", body)["id"])

    def import_tasks(self, project: int, tasks: Sequence[Json]) -> None:
        """Adds tasks to a project.

        Raises:
            DemoError: not all of them were taken.
        """
        imported = self._post(f"/api/projects/{project}/import", tasks)
        if imported["task_count"] != len(tasks):
            raise DemoError(f"{imported['task_count']} of {len(tasks)} tasks were imported")

    def projects(self) -> list[Json]:
        """The projects, each with `id`, `title` and `task_number`; at most 1,000."""
        return list(self._get("/api/projects", page_size=1000)["results"])

    def connect(self, project: int, backend_url: str, title: str = "llm", **more: Any) -> requests.Response:
        """Connects a model for interactive use, like "Validate and Save" on the model page."""
        model = {"url": backend_url, "project": project, "title": title, "is_interactive": True, **more}
        return self._session.post(f"{self.url}/api/ml", json=model, timeout=60)

    def models(self, project: int) -> list[Json]:
        """The project's connected models. To answer, Label Studio calls the `/setup` of each."""
        return list(self._get("/api/ml", project=project))

    def change_model(self, model: Json, **changes: Any) -> requests.Response:
        """Changes the named fields of a connected model, like "Validate and Save"."""
        names = ("project", "title", "url", "is_interactive", "extra_params")
        body = {**{name: model[name] for name in names}, **changes}
        return self._session.patch(f"{self.url}/api/ml/{model['id']}", json=body, timeout=60)

    def webhooks(self, project: int) -> list[Json]:
        """The project's webhooks."""
        return list(self._get("/api/webhooks/", project=project))

    def move_webhook(self, project: int, old_url: str, new_url: str) -> None:
        """Changes the address of the project's webhook, if there is one with the old address."""
        for webhook in self.webhooks(project):
            if webhook["url"] == old_url:
                address = f"{self.url}/api/webhooks/{webhook['id']}/"
                _json(self._session.patch(address, json={"url": new_url}, timeout=60))

    def tasks(self, project: int) -> list[Json]:
        """The project's tasks in order, with their predictions; at most 100."""
        answer = self._get("/api/tasks", project=project, fields="all", page_size=100)
        return sorted(answer["tasks"], key=lambda task: int(task["id"]))

    def retrieve_predictions(self, project: int, tasks: Sequence[int] | None = None) -> None:
        """Does the same as Data Manager → Retrieve Predictions, for these tasks or for all."""
        selected: Json = {"all": True, "excluded": []} if tasks is None else {"all": False, "included": tasks}
        self._post(
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", {"selectedItems": selected}
        )

    def _get(self, path: str, **parameters: Any) -> Any:
        return _json(self._session.get(self.url + path, params=parameters, timeout=60))

    def _post(self, path: str, body: Any) -> Any:
        return _json(self._session.post(self.url + path, json=body, timeout=_SECONDS_TO_POST))


def label_studio_process(
    executable: Path,
    port: int,
    credentials: Credentials,
    directory: Path,
    *,
    inherited: Sequence[int] = (),
    calls_local_addresses: bool = True,
) -> ServerProcess:
    """A Label Studio on loopback that keeps all its files in `directory`.

    Label Studio refuses a backend on loopback by default; with `calls_local_addresses` it accepts one.
    """
    protection = "false" if calls_local_addresses else "true"
    home = directory / "home"
    home.mkdir(parents=True, exist_ok=True)
    return ServerProcess(
        [executable, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)],
        environment={
            **credentials.variables(),  # everybody on the machine can read arguments
            "HOME": str(home),
            "LABEL_STUDIO_BASE_DATA_DIR": str(directory / "data"),
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LOCAL_FILES_SERVING_ENABLED": "true",
            "LOCAL_FILES_DOCUMENT_ROOT": str(directory / "files"),
            "ML_BLOCK_LOCAL_IP": protection,
            "SSRF_PROTECTION_ENABLED": protection,
            "CORS_ALLOW_ALL_ORIGINS": "false",  # no other page in the browser may call its API
            "COLLECT_ANALYTICS": "false",  # with these four, nothing leaves the machine
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "PYTHONUNBUFFERED": "1",  # so that the log says at once that the port is in use
        },
        directory=directory,
        inherited=inherited,
    )


def _json(answer: requests.Response) -> Any:
    if not answer.ok:
        raise requests.HTTPError(
            f"{answer.status_code} for {answer.url}: {answer.text[:2000]}", response=answer
        )
    return answer.json()
