"""What a request's body holds, checked: an error names the field that is wrong."""

import json
import sys
import time
from contextlib import suppress
from typing import Any

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from llm_backend.errors import RequestError, RequestTooLargeError, UnsupportedMediaTypeError, storable
from llm_backend.label_studio.project_key import key_of
from llm_backend.values import Json

_PIECE_BYTES = 1 << 16
_SECONDS_TO_DISCARD = 10.0


def read_payload() -> Json:
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
        payload = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RequestError("The body is not valid JSON in UTF-8") from None
    if not isinstance(payload, dict):
        raise RequestError("The body must be a JSON object")
    suspicious = any(escape in body for escape in (b"\\ud", b"\\uD", b"\\u0000"))
    return _storable(payload) if suspicious else payload


def field(payload: Json, name: str, kind: type, *, required: bool = True, parent: str = "") -> Any:
    """The field of the payload; None when it is missing or null and not required.

    Raises:
        RequestError: it is of another kind.
    """
    value = payload.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, kind):
        needed = "a string" if kind is str else "an object" if kind is dict else "a list"
        raise RequestError(f"The field {parent}{name} must be {needed}")
    return value


def tasks_of(payload: Json) -> list[Json]:
    """The tasks of the payload, each with its data.

    Raises:
        RequestError: one of them is no task.
    """
    tasks: list[Any] = field(payload, "tasks", list)
    for index, task in enumerate(tasks):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise RequestError(f'tasks[{index}] must be an object with an object "data"')
    return tasks


def context_of(payload: Json, tasks: list[Json]) -> Json | None:
    """What makes a request interactive: the regions beside the task; None for a batch.

    Raises:
        RequestError: it is of another kind, or there is not exactly one task.
    """
    params = field(payload, "params", dict, required=False) or {}
    context: Json | None = field(params, "context", dict, required=False, parent="params.")
    field(context or {}, "result", list, required=False, parent="params.context.")
    if context and len(tasks) != 1:
        raise RequestError("An interactive request, one with params.context, must hold exactly one task")
    return context


def webhook_project(payload: Json) -> str | None:
    """The project string that `/setup` and `/predict` have, from the webhook's project object."""
    key = key_of(field(payload, "project", dict, required=False) or {})
    return str(key) if key else None


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
    """Reads on for at most 10 s: a client that is cut off while it sends never sees the answer."""
    deadline = time.monotonic() + _SECONDS_TO_DISCARD
    left = request.content_length or sys.maxsize  # sent in chunks: the server knows the end
    with suppress(OSError):
        while left > 0 and time.monotonic() < deadline:
            piece = request.input_stream.read(min(left, _PIECE_BYTES))
            left = left - len(piece) if piece else 0


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _storable(value: Any) -> Any:
    """The value with U+FFFD for NUL and for halves of surrogate pairs, which no database takes."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value
