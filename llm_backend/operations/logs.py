"""The log: every line of the process through one formatter, as text or as JSON, without secrets.

At INFO and above no line holds a prompt, a reply or a task's data: those are for DEBUG. Other libraries do
not know that, so the log takes their lines from WARNING on.
"""

import json
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from llm_backend.operations.redaction import basic_credentials, hide, redact
from llm_backend.settings import Settings

_OURS = ("llm_backend", "model", "_wsgi", "__main__", "gunicorn")
_MOST_OF_A_FIELD = 500  # clients choose the name of their project
_MOST_CHARACTERS = 20_000  # of a message at DEBUG, which may hold a whole document
# What could begin a new line, or show a line as another: control characters, also of bidirectional text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_PLAIN = re.compile(r"[\w./:@+-]+")

_log = logging.getLogger(__name__)
_context: ContextVar[dict[str, Any]] = ContextVar("log_context", default={})  # noqa: B039 - never changed


def configure(settings: Settings) -> None:
    """Sends what this process logs to stderr, from the settings' level on and in their format.

    Warnings and uncaught errors go there, too. A second call replaces the first.
    """
    hide_secrets(settings)
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(settings))
    handler.addFilter(_is_for_operators)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel("WARNING" if settings.log_level in ("DEBUG", "INFO") else settings.log_level)
    for name in _OURS:
        logging.getLogger(name).setLevel(settings.log_level)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings hold the addresses of tasks' files
    logging.raiseExceptions = False  # the report of a failed write would show the arguments as they are
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_end_of_thread
    sys.unraisablehook = _log_unraisable


def make_formatter(settings: Settings) -> logging.Formatter:
    """The formatter for every handler there is: nothing that it gives holds a secret."""
    kind = JsonFormatter if settings.log_format == "json" else TextFormatter
    return kind(tells_data=settings.log_level == "DEBUG")


def hide_secrets(settings: Settings) -> None:
    """Hides every secret of the settings, in the forms in which it is sent or written."""
    for secret in settings.secrets():
        hide(secret, forever=True)
    if settings.basic_auth_user is not None and settings.basic_auth_pass is not None:
        password = settings.basic_auth_pass.get_secret_value()
        for credentials in basic_credentials(settings.basic_auth_user, password):
            hide(credentials, forever=True)


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Every line that is logged in the block has these fields, too."""
    token = _context.set(_context.get() | fields)
    try:
        yield
    finally:
        _context.reset(token)


def with_fields(**fields: Any) -> dict[str, Any]:
    """The `extra` of a log call whose line gets these fields; those that are None are left out."""
    return {"fields": fields}


class _Formatter(logging.Formatter):
    """What both formats share. `tells_data`: whether tracebacks may repeat prompts, replies and tasks."""

    def __init__(self, *, tells_data: bool) -> None:
        super().__init__()
        self._tells_data = tells_data

    def _message(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except Exception:  # a library's mistake; the error would print the arguments
            message = f"{record.msg} (the arguments do not fit)"
        message = redact(message)
        if len(message) > _MOST_CHARACTERS:
            message = f"{message[:_MOST_CHARACTERS]}... ({len(message)} characters)"
        return message

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields of the line and of the context: numbers, and texts without secrets."""
        own = getattr(record, "fields", None)
        fields = (own if isinstance(own, dict) else {}) | _context.get()
        fields = {
            name: value if isinstance(value, (int, float)) else str(value)
            for name, value in fields.items()
            if value is not None
        }
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        together = "\n".join(texts.values())
        if redact(together) != together:  # nearly never, and one look costs less than one for each field
            texts = {name: redact(text) for name, text in texts.items()}
        return fields | {name: text[:_MOST_OF_A_FIELD] for name, text in texts.items()}

    def _traceback(self, record: logging.LogRecord) -> str:
        """The traceback and the stack that the record has; empty without either."""
        error = record.exc_info[1] if record.exc_info else None
        parts = []
        if error is not None and (self._tells_data or record.name.startswith("gunicorn")):
            parts += traceback.format_exception(error)
        elif error is not None:
            parts += _without_messages(error)
        if record.stack_info:
            parts.append(record.stack_info)
        return redact("".join(parts).rstrip("\n"))


class TextFormatter(_Formatter):
    """One line for a record. A traceback follows in lines of its own, which begin with `|`."""

    def format(self, record: logging.LogRecord) -> str:
        """The time in UTC, the level, the process, the logger, the message, and fields as `name=value`."""
        fields = "".join(f" {name}={_shown(value)}" for name, value in self._fields(record).items())
        line = (
            f"{_timestamp(record)} {record.levelname} [{record.process}] {record.name}: "
            f"{_on_one_line(self._message(record))}{fields}"
        )
        trace = self._traceback(record).split("\n") if record.exc_info or record.stack_info else []
        return "\n".join([line, *(f"| {_on_one_line(part)}" for part in trace)])


class JsonFormatter(_Formatter):
    """One JSON object on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """`timestamp`, `level`, `process`, `logger`, `message`, fields, and `exception` if there is one."""
        values = {
            **self._fields(record),
            "timestamp": _timestamp(record),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": self._message(record),
        }
        trace = self._traceback(record)
        if trace:
            values["exception"] = trace
        return json.dumps(values)


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _on_one_line(text: str) -> str:
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _shown(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else _on_one_line(json.dumps(text, ensure_ascii=False))


def _without_messages(error: BaseException) -> list[str]:
    """Where the error and those behind it came from, and of what kind they are.

    What they say is left out: it may repeat a prompt, a reply or a task's data.
    """
    parts: list[str] = []
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        kind = type(behind)
        number = behind.errno if isinstance(behind, OSError) else None
        said = f": {os.strerror(number)}" if isinstance(number, int) else ""
        parts.insert(0, f"{kind.__module__}.{kind.__qualname__}{said}\n")
        parts[:0] = traceback.format_tb(behind.__traceback__)
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return [*parts, "What the errors say is logged with LOG_LEVEL=DEBUG."]


def _is_for_operators(record: logging.LogRecord) -> bool:
    """Whether the line is ours, or a warning: some libraries set their level themselves."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in _OURS


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Replaces `logging.captureWarnings`: pydantic's warnings repeat the values that they are about."""
    _log.warning("%s at %s:%d", category.__name__, filename, lineno)
    _log.debug("The warning: %s", message)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("Unexpected error", exc_info=(kind, error, trace))


def _log_end_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        name = arguments.thread.name if arguments.thread else "?"
        _log.critical("The thread %s ends with an unexpected error", name, exc_info=arguments.exc_value)


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    _log.error("An error that nobody can catch", exc_info=unraisable.exc_value)
