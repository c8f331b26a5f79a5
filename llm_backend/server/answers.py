"""What routes answer with, and what the log line of a request says beside method, endpoint and status."""

import json
from typing import Any

from flask import Response, g

from llm_backend.errors import reason_phrase


def json_answer(value: Any) -> Response:
    """The value as JSON, with 200."""
    return Response(json.dumps(value, ensure_ascii=False), mimetype="application/json")


def error_answer(status: int, code: str, reason: str) -> Response:
    """The whole reason in the body, and what fits of it in the status line, which Label Studio shows."""
    say(outcome=code)
    answer = json_answer({"error": {"code": code, "reason": reason}})
    answer.status = f"{int(status)} {reason_phrase(reason)}"
    return answer


def say(**fields: Any) -> None:
    """Adds fields to the line that the log has for this request."""
    g.setdefault("said", {}).update(fields)
