"""Label Studio's API on loopback, as far as the backend asks for it, with the answers that 1.23.2 gives."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

LEGACY_TOKEN = "f" * 40
BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
LEGACY_IS_OFF = (
    "Authentication token no longer valid: "
    "legacy token authentication has been disabled for this organization"
)


def json_web_token(**claims: Any) -> str:
    """A token of three parts that says this of itself; the signature is none."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


PERSONAL_TOKEN = json_web_token(token_type="refresh", exp=8_102_742_015)
ACCESS_TOKEN = json_web_token(token_type="access", exp=8_102_742_015)


class StubLabelStudio:
    """One user and some projects. `refusal` is what it says of every token; `blocked` are local addresses.

    Its `url` may be given a path, below which it then is. `failures` has a status for each path that fails.
    Access tokens last `lifetime` seconds; of those in `given` it takes only the newest. `asked` has method
    and path of each request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.projects: list[Json] = []
        self.models: dict[int, list[Json]] = {}
        self.webhooks: dict[int, list[Json]] = {}
        self.tasks: dict[int, list[Json]] = {}
        self.refusal = ""
        self.blocked = False
        self.created: list[Json] = []
        self.predictions: list[Json] = []
        self.failures: dict[str, int] = {}
        self.lifetime = 300
        self.given: list[str] = []
        self.asked: list[tuple[str, str]] = []

    def add(self, label_config: str, model_url: str, model_version: str = "", **model: Any) -> int:
        """A project of two tasks with a connected model, as connecting makes it; returns its id."""
        number = len(self.projects) + 1
        created = "2026-11-24T17:40:53.990775Z"
        self.projects.insert(
            0, {"id": number, "title": f"p{number}", "label_config": label_config, "created_at": created}
        )
        self.models[number] = [
            {
                "id": number, "state": "CO", "readable_state": "Connected", "is_interactive": True,
                "url": model_url, "error_message": None, "title": "llm", "auth_method": "NONE",
                "basic_auth_user": "", "basic_auth_pass_is_set": False, "description": "",
                "extra_params": None, "model_version": model_version, "timeout": 100.0,
                "created_at": created, "updated_at": created, "auto_update": True, "project": number,
            }
            | model
        ]  # fmt: skip
        self.webhooks[number] = [
            {
                "id": number, "organization": 1, "project": number, "url": f"{model_url}/webhook",
                "send_payload": True, "send_for_all_actions": True, "headers": {}, "is_active": True,
                "actions": [], "created_at": created, "updated_at": created,
            }
        ]  # fmt: skip
        self.tasks[number] = [{"id": 10 * number, "data": {"text": "a"}, "project": number}]
        return number

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, token: str) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        self.asked.append((method, path))
        if path in self.failures:
            return self.failures[path], _error(self.failures[path], "It fails")
        if path == "/api/version":
            return 200, {"release": "1.23.2", "label-studio-os-package": {"version": "1.23.2"}}
        if path == "/api/token/refresh":
            return (401, _error(401, self.refusal)) if self.refusal else (200, {"access": self._new_token()})
        if token not in (f"Token {LEGACY_TOKEN}", *(f"Bearer {newest}" for newest in self.given[-1:])):
            return 401, _error(401, "Invalid token.")
        if self.refusal:
            return 401, _error(401, self.refusal)
        if method == "GET":
            return self._list(path, query)
        return self._import(path, body) if path.endswith("/import/predictions") else self._connect(body)

    def _new_token(self) -> str:
        expires = int(time.time()) + self.lifetime
        self.given.append(json_web_token(token_type="access", exp=expires, number=len(self.given)))
        return self.given[-1]

    def _import(self, path: str, body: list[Json]) -> tuple[int, Any]:
        known = {task["id"] for task in self.tasks.get(int(path.split("/")[3]), [])}
        if not {prediction["task"] for prediction in body} <= known:
            return 400, _error(400, "Validation error")
        self.predictions += body
        return 201, {"created": len(body)}

    def _tasks(self, project: int, query: dict[str, str]) -> tuple[int, Any]:
        included = json.loads(query.get("query", "{}")).get("selectedItems", {}).get("included")
        chosen = [
            task | {"predictions": [one for one in self.predictions if one["task"] == task["id"]]}
            for task in self.tasks.get(project, [])
            if included is None or task["id"] in included
        ]
        size = int(query.get("page_size", "100"))
        start = (int(query.get("page", "1")) - 1) * size
        if start and start >= len(chosen):
            return 404, _error(404, "Invalid page.")
        return 200, {"total": len(chosen), "tasks": chosen[start : start + size]}

    def _connect(self, body: Json) -> tuple[int, Any]:
        if self.blocked:
            return 403, _error(403, BLOCKED)
        if not any(item["id"] == body.get("project") for item in self.projects):
            return 400, _error(400, "Validation error")
        self.created.append(body)
        return 201, body

    def _list(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        project = int(query.get("project", "0"))
        start = (int(query.get("page", "1")) - 1) * int(query.get("page_size", "100"))
        page = self.projects[start : start + int(query.get("page_size", "100"))]
        if path == "/api/projects" and start and not page:
            return 404, _error(404, "Invalid page.")
        if path == "/api/tasks":
            return self._tasks(project, query)
        if one := re.fullmatch(r"/api/projects/(\d+)", path):
            found = [item for item in self.projects if item["id"] == int(one[1])]
            return (200, found[0]) if found else (404, _error(404, "No Project matches the given query."))
        lists: dict[str, Any] = {
            "/api/current-user/whoami": {"id": 1, "email": "admin@example.com"},
            "/api/projects": {"count": len(self.projects), "next": None, "previous": None, "results": page},
            "/api/ml": self.models.get(project, []),
            "/api/webhooks": self.webhooks.get(project, []),
        }
        return (200, lists[path]) if path in lists else (404, _error(404, f"Not found: {path}"))


def _error(status: int, detail: str) -> Json:
    return {"id": "x", "status_code": status, "version": "1.23.2", "detail": detail, "exc_info": None}


@contextmanager
def running_label_studio() -> Iterator[StubLabelStudio]:
    """A stub that listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("Authorization", "")
            path = parts.path.removeprefix(urlsplit(stub.url).path).rstrip("/")
            inside = parts.path.startswith(urlsplit(stub.url).path)
            status, answer = (
                stub.answer(self.command, path, query, body, token) if inside else (404, "nobody here")
            )
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub = StubLabelStudio(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
