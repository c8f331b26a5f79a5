"""The Flask app: what happens around every route. Basic auth, headers, errors, log line and metrics."""

import logging
import random
import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from llm_backend.errors import UNEXPECTED, BackendError
from llm_backend.operations import logs
from llm_backend.server.answers import error_answer, say
from llm_backend.server.basic_auth import is_trusted
from llm_backend.server.label_studio_routes import ModelFactory, add_label_studio_routes
from llm_backend.server.operator_routes import NOTHING, add_operator_routes
from llm_backend.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OPEN_TO_ALL = {"health", "webhook"}
_HEADERS = (  # for browsers: nothing of this server is shown inside another page, kept, or taken for HTML
    ("Content-Security-Policy", NOTHING),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


def create_app(make_model: ModelFactory, services: Services) -> Flask:
    """The Flask app that speaks Label Studio's ML backend protocol."""
    app = Flask("llm_backend", static_folder=None)
    settings, metrics = services.settings, services.metrics
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    add_label_studio_routes(app, make_model, services)
    add_operator_routes(app, services)

    @app.before_request
    def begin() -> Response | None:
        g.started = time.monotonic()
        g.under_way = endpoint = request.endpoint or "unknown"
        metrics.request_began(endpoint)
        if endpoint in _OPEN_TO_ALL or is_trusted(settings):
            return None
        refused = error_answer(HTTPStatus.UNAUTHORIZED, "unauthorized", "Wrong or missing credentials")
        refused.headers["WWW-Authenticate"] = 'Basic realm="llm-backend", charset="UTF-8"'
        return refused

    @app.after_request
    def account(response: Response) -> Response:
        endpoint, status = request.endpoint or "unknown", response.status_code
        level = logging.DEBUG if endpoint in ("health", "metrics") else logging.INFO
        seconds = time.monotonic() - g.get("started", time.monotonic())
        metrics.request(endpoint, status, seconds)
        if _log.isEnabledFor(level):
            fields = {
                "method": request.method,
                "endpoint": endpoint,
                "status": status,
                "milliseconds": round(seconds * 1000, 1),
                "outcome": "ok",
            }
            _log.log(level, "request", extra=logs.with_fields(**fields | g.get("said", {})))
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if "under_way" in g:
            metrics.request_ended(g.pop("under_way"))

    @app.errorhandler(Exception)
    def answer_error(error: Exception) -> Response:
        if isinstance(error, BackendError):
            say(reason=error.logged if error.logged != error.code else None)
            _log.debug("The reason: %s", error.reason)
            return error_answer(error.status, error.code, error.reason)
        if isinstance(error, HTTPException):
            code = (error.name or "http_error").lower().replace(" ", "_")
            return error_answer(error.code or 500, code, error.description or error.name)
        _log.exception("Unexpected error")
        return error_answer(500, "internal_error", UNEXPECTED)

    app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def _with_headers(app: "WSGIApplication") -> "WSGIApplication":
    """The app with the headers that every answer has; Flask would spend 40 us on setting them.

    The request's id is among them, and in every line that is logged meanwhile. It is that of the request's
    `X-Request-ID` if that is sane, else a new one.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        # No secret, and `secrets` would give up the GIL for the kernel's random numbers.
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else f"{random.getrandbits(48):012x}"

        def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            there = {name for name, _ in headers}
            more = [header for header in _HEADERS if header[0] not in there]
            return start_response(status, [*headers, *more, ("X-Request-ID", request_id)], *error)

        with logs.context(request_id=request_id):
            return app(environ, begin)

    return answer
