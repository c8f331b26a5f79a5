"""The key that names a project in Label Studio's requests: `<id>.<created>`.

The id alone is not unique where several Label Studios use one backend; with the second of the project's
creation it is. `/setup` and `/predict` bring the key itself. Webhooks and the API describe a project by `id`
and `created_at`, from which the key follows.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_backend.values import Json

_KEY = re.compile(r"(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """A project of one Label Studio. `created` is in Unix seconds; `str()` gives the key of requests."""

    id: int
    created: int

    def __str__(self) -> str:
        return f"{self.id}.{self.created}"


def parse_key(text: str) -> ProjectKey | None:
    """The key that a request brought; None when the text is none."""
    found = _KEY.fullmatch(text)
    return ProjectKey(int(found[1]), int(found[2])) if found else None


def key_of(project: Json) -> ProjectKey | None:
    """The key of a project as a webhook or the API describes it; None when that lacks id or time.

    `created_at` is a datetime or an ISO text; a time without a zone counts as UTC.
    """
    try:
        created = project["created_at"]
        at = created if isinstance(created, datetime) else datetime.fromisoformat(created)
        zoned = at if at.tzinfo else at.replace(tzinfo=UTC)
        return parse_key(f"{int(project['id'])}.{int(zoned.timestamp())}")
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def key_of_no_project() -> str:
    """A key for a request that names no project: no project has it, and no other request."""
    return f"-{uuid.uuid4().hex}"
