"""A stub of Label Studio's API on loopback: what `--check` calls, with the answers of version 1.23.2."""

import base64
import json
import threading
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
    """A JSON Web Token with these claims and a false signature."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


PERSONAL_TOKEN = json_web_token(token_type="refresh", exp=8_102_742_015)
ACCESS_TOKEN = json_web_token(token_type="access", exp=8_102_742_015)


class StubLabelStudio:
    """A Label Studio with one user and some projects.

    If `refusal` is set, it refuses every token with this text. If `blocked` is set, it refuses local
    addresses. If a test gives `url` a path, the stub answers below that path only.
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

    def add(self, label_config: str, model_url: str, model_version: str = "", **model: Any) -> int:
        """Adds a project with a task, a connected model and its webhook; returns its id."""
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
        """The status and the JSON of the answer."""
        if path == "/api/version":
            return 200, {"release": "1.23.2", "label-studio-os-package": {"version": "1.23.2"}}
        if path == "/api/token/refresh":
            return (401, _error(401, self.refusal)) if self.refusal else (200, {"access": ACCESS_TOKEN})
        if token not in (f"Token {LEGACY_TOKEN}", f"Bearer {ACCESS_TOKEN}"):
            return 401, _error(401, "Invalid token.")
        if self.refusal:
            return 401, _error(401, self.refusal)
        return self._connect(body) if method == "POST" else self._list(path, query)

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
        lists: dict[str, Any] = {
            "/api/current-user/whoami": {"id": 1, "email": "admin@example.com"},
            "/api/projects": {"count": len(self.projects), "next": None, "previous": None, "results": page},
            "/api/projects/1": self.projects[-1] if self.projects else None,
            "/api/ml": self.models.get(project, []),
            "/api/webhooks": self.webhooks.get(project, []),
            "/api/tasks": {"total": 1, "tasks": self.tasks.get(project, [])},
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
