"""HTTP: routes, authentication, checked payloads, and one error handler. The only module with Flask in it."""

import hmac
import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from llm_backend.errors import (
    UNEXPECTED,
    BackendError,
    RequestError,
    RequestTooLargeError,
    UnknownJobError,
    UnsupportedMediaTypeError,
    reason_phrase,
    storable,
)
from llm_backend.label_studio.project_key import key_of
from llm_backend.ml_base import LabelStudioMLBase
from llm_backend.operations import logs
from llm_backend.operations.redaction import hide
from llm_backend.server.health import health_of
from llm_backend.services import Services
from llm_backend.settings import Settings
from llm_backend.storage import Job, JobState, Progress
from llm_backend.values import Json, Usage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OPEN_TO_ALL = {"health", "webhook"}
_JOBS_PAGE = (Path(__file__).parent / "pages" / "jobs.html").read_text(encoding="utf-8")
_PAGE_POLICY = "style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {  # for browsers: nothing of this server is shown inside another page, kept, or taken for HTML
    "Content-Security-Policy": _NOTHING_ELSE,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PIECE_BYTES = 1 << 16
_TOKEN = re.compile(r"[\w.-]{30,}")  # of Label Studio; anybody may send what would blank out the log
_SECONDS_TO_DISCARD = 10.0


class ModelFactory(Protocol):
    """Makes the model for one request."""

    def __call__(
        self, project_id: str | None, label_config: str | None, *, services: Services
    ) -> LabelStudioMLBase:
        """A model for the project string and the labeling config of the request."""
        ...


def create_app(make_model: ModelFactory, services: Services) -> Flask:  # noqa: C901 - routes, side by side
    """The Flask app that speaks Label Studio's ML backend protocol."""
    app = Flask("llm_backend", static_folder=None)
    settings = services.settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes

    @app.get("/")
    def index() -> Response:
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
            return health()
        page = Response(_JOBS_PAGE, mimetype="text/html")
        page.headers["Content-Security-Policy"] = f"{_NOTHING_ELSE}; {_PAGE_POLICY}"
        return page

    @app.get("/health")
    def health() -> Response:
        trusted = settings.basic_auth_user is None or _has_credentials(settings)
        return _json(health_of(services, with_reason=trusted))

    @app.post("/setup")
    def setup() -> Response:
        payload = _payload()
        project = _field(payload, "project", str)
        model = make_model(project, _field(payload, "schema", str), services=services)
        _say(project=project)
        model.set_extra_params(payload.get("extra_params"))
        url = _field(payload, "hostname", str, required=False)
        token = _field(payload, "access_token", str, required=False)
        if token and _TOKEN.fullmatch(token):
            hide(token)
        if url:
            model.set_label_studio(url, token or "")
        return _json({"model_version": model.model_version})

    @app.post("/predict")
    def predict() -> Response:
        payload = _payload()
        tasks = _tasks(payload)
        project = _field(payload, "project", str, required=False)
        label_config = _field(payload, "label_config", str, required=False)
        params = _field(payload, "params", dict, required=False) or {}
        context = _field(params, "context", dict, required=False, parent="params.")
        _field(context or {}, "result", list, required=False, parent="params.context.")
        if context and len(tasks) != 1:
            raise RequestError("An interactive request, one with params.context, must hold exactly one task")
        _say(project=project, tasks=len(tasks), **asdict(Usage()))
        model = make_model(project, label_config, services=services)
        results = model.predict(tasks, context=context)
        _say(**asdict(model.usage))
        return _json({"results": results})

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        if not settings.webhook_is_trusted and not _has_credentials(settings):
            _say(outcome="ignored")
            return _json({"status": "ignored"}), HTTPStatus.CREATED
        payload = _payload()
        action = _field(payload, "action", str)
        key = key_of(_field(payload, "project", dict, required=False) or {})
        project = str(key) if key else None
        _say(project=project)
        if project:
            make_model(project, None, services=services).fit(action, payload)
        return _json({"status": "ok"}), HTTPStatus.CREATED

    @app.get("/versions")
    def versions() -> Response:
        return _json({"versions": sorted(set(_known_versions(make_model, services)))})

    @app.get("/jobs")
    def jobs() -> Response:
        return _json({"jobs": [_job_summary(job, progress) for job, progress in services.batches.recent()]})

    @app.delete("/jobs/<job_id>")
    def end_job(job_id: str) -> Response:
        ended = services.batches.stop(job_id)
        if ended is None:
            raise UnknownJobError(f"There is no batch {job_id}: GET /jobs lists them")
        return _json({"ended": ended})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(services.metrics.text(), mimetype="text/plain; version=0.0.4")

    @app.before_request
    def begin() -> None:
        g.under_way = request.endpoint or "unknown"
        services.metrics.request_began(g.under_way)

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if "under_way" in g:
            services.metrics.request_ended(g.pop("under_way"))

    @app.before_request
    def authenticate() -> Response | None:
        g.started = time.monotonic()
        if request.endpoint in _OPEN_TO_ALL or settings.basic_auth_user is None:
            return None
        if _has_credentials(settings):
            return None
        refused = _error_response(HTTPStatus.UNAUTHORIZED, "unauthorized", "Wrong or missing credentials")
        refused.headers["WWW-Authenticate"] = 'Basic realm="llm-backend", charset="UTF-8"'
        return refused

    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.after_request
    def account(response: Response) -> Response:
        endpoint = request.endpoint or "unknown"
        level = logging.DEBUG if endpoint in ("health", "metrics") else logging.INFO
        seconds = time.monotonic() - g.get("started", time.monotonic())
        services.metrics.request(endpoint, response.status_code, seconds)
        fields = {
            "method": request.method,
            "endpoint": endpoint,
            "status": response.status_code,
            "milliseconds": round(seconds * 1000, 1),
        }
        said = {"outcome": "ok", **g.get("said", {})}
        _log.log(level, "request", extra=logs.with_fields(**fields, **said))
        return response

    @app.errorhandler(Exception)
    def answer_error(error: Exception) -> Response:
        if isinstance(error, BackendError):
            _say(reason=error.logged if error.logged != error.code else None)
            _log.debug("The reason: %s", error.reason)
            return _error_response(error.status, error.code, error.reason)
        if isinstance(error, HTTPException):
            code = (error.name or "http_error").lower().replace(" ", "_")
            return _error_response(error.code or 500, code, error.description or error.name)
        _log.exception("Unexpected error")
        return _error_response(500, "internal_error", UNEXPECTED)

    app.wsgi_app = _with_request_id(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def _known_versions(make_model: ModelFactory, services: Services) -> Iterator[str]:
    """The present model versions of all known projects: Label Studio does not say for which one it asks."""
    for project in services.projects.names():
        with suppress(BackendError):  # a project that cannot work any more has no version
            yield make_model(project, None, services=services).model_version


def _job_summary(job: Job, progress: Progress) -> Json:
    """What `GET /jobs` says of a batch; `eta_seconds` is null when it cannot be told."""
    eta = (
        progress.left / progress.per_second if progress.per_second and job.state is JobState.ACTIVE else None
    )
    return {
        "id": job.id,
        "project": job.project,
        "model_version": job.model_version,
        "state": job.state,
        "reason": job.reason,
        "created_at": datetime.fromtimestamp(job.created_at, UTC).isoformat(),
        "done": progress.done,
        "failed": progress.failed,
        "left": progress.left,
        "undelivered": progress.undelivered,
        "tokens": progress.tokens,
        "per_second": round(progress.per_second, 2),
        "eta_seconds": None if eta is None else round(eta, 1),
    }


def _error_response(status: int, code: str, reason: str) -> Response:
    """The whole reason in the body, and what fits of it in the status line, which Label Studio shows."""
    _say(outcome=code)
    response = _json({"error": {"code": code, "reason": reason}})
    response.status = f"{int(status)} {reason_phrase(reason)}"
    return response


def _say(**fields: Any) -> None:
    """Has the line that is logged for this request say these, too."""
    g.setdefault("said", {}).update(fields)


def _with_request_id(app: "WSGIApplication") -> "WSGIApplication":
    """The app with an id for each request, that of its `X-Request-ID` if it is sane: in every line that is
    logged meanwhile, and in the answer.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(6)

        def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("X-Request-ID", request_id)], *error)

        with logs.context(request_id=request_id):
            return app(environ, begin)

    return answer


def _json(value: Any) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), mimetype="application/json")


def _payload() -> Json:
    """The body as a JSON object.

    Raises:
        UnsupportedMediaTypeError: it is not declared as JSON; else any web page could post to a local server.
        RequestTooLargeError: it is larger than MAX_REQUEST_BYTES.
        RequestError: it is not JSON, or not an object.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaTypeError("The body must be sent with Content-Type: application/json")
    body = _body()
    try:
        payload = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RequestError("The body is not valid JSON in UTF-8") from None
    if not isinstance(payload, dict):
        raise RequestError("The body must be a JSON object")
    suspicious = any(escape in body for escape in (b"\\ud", b"\\uD", b"\\u0000"))
    return _storable(payload) if suspicious else payload


def _body() -> bytes:
    limit = request.max_content_length or sys.maxsize
    with suppress(RequestEntityTooLarge):
        body = request.get_data()
        if request.content_length is not None or len(body) < limit:  # Werkzeug cuts what comes in chunks
            return body
    _discard_body()
    raise RequestTooLargeError(
        f"The request is larger than {limit} bytes: select fewer tasks, or raise MAX_REQUEST_BYTES"
    )


def _discard_body() -> None:
    """Reads what the client still sends, for a while: who is cut off while sending never sees the answer."""
    deadline = time.monotonic() + _SECONDS_TO_DISCARD
    left = request.content_length or sys.maxsize  # sent in chunks: the server knows the end
    with suppress(OSError):
        while left > 0 and time.monotonic() < deadline:
            piece = request.input_stream.read(min(left, _PIECE_BYTES))
            left = left - len(piece) if piece else 0


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _storable(value: Any) -> Any:
    """The value with U+FFFD for NUL and for halves of surrogate pairs, which no database takes."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def _field(payload: Json, name: str, kind: type, *, required: bool = True, parent: str = "") -> Any:
    """The field of the payload; None when it is missing or null and not required."""
    value = payload.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, kind):
        needed = "a string" if kind is str else "an object" if kind is dict else "a list"
        raise RequestError(f"The field {parent}{name} must be {needed}")
    return value


def _tasks(payload: Json) -> list[Json]:
    tasks: list[Any] = _field(payload, "tasks", list)
    for index, task in enumerate(tasks):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise RequestError(f'tasks[{index}] must be an object with an object "data"')
    return tasks


def _has_credentials(settings: Settings) -> bool:
    """Whether the request carries the right Basic auth; compared in constant time."""
    if settings.basic_auth_user is None or settings.basic_auth_pass is None:
        return False
    given = request.authorization
    user, password = (given.username, given.password) if given else ("", "")
    user_is_right = _same(user or "", settings.basic_auth_user)
    password_is_right = _same(password or "", settings.basic_auth_pass.get_secret_value())
    return user_is_right and password_is_right


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))
