"""The one error tree: what went wrong, its HTTP status, and the sentence a person is shown.

Catching `BackendError` misses nothing that this project raises on purpose. `reason` is written for a
person and says what to do; Label Studio shows it because `reason_phrase` puts it in the status line.
"""

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_backend.values import Completion

_MAX_REASON_PHRASE = 200
UNEXPECTED = "Internal error: the server's log says more"  # all that a person is told of a bug


class BackendError(Exception):
    """Root of all errors of this project.

    `code` is stable and meant for programs, `status` is the HTTP status to answer with, `reason` is one
    sentence for a person. `logged` is what a log may say of it at any level: the reason, or only the code
    where the reason may repeat something of a task, a prompt or a reply (`may_quote`). `may_pass` says that
    the same may succeed a little later, without anybody doing anything.
    """

    code = "internal_error"
    status = 500
    may_quote = False
    may_pass = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.logged = self.code if self.may_quote else reason


class SettingsError(BackendError):
    """The environment holds values that cannot be. `problems` has one line for each of them."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"The settings cannot be used:{lines}")


class RequestError(BackendError):
    """The payload is not what the protocol says."""

    code = "bad_request"
    status = 400


class RequestTooLargeError(RequestError):
    """The request's body is larger than MAX_REQUEST_BYTES."""

    code = "request_too_large"
    status = 413


class UnsupportedMediaTypeError(RequestError):
    """The body is not declared to be JSON."""

    code = "unsupported_media_type"
    status = 415


class LabelingConfigError(BackendError):
    """The labeling config lacks something that this backend needs."""

    code = "labeling_config"
    status = 422


class ExtraParamsError(BackendError):
    """The model page's extra params name something unknown, impossible or not allowed."""

    code = "extra_params"
    status = 422


class MissingSettingsError(BackendError):
    """The provider cannot be asked because a key or an address has not been set."""

    code = "missing_settings"
    status = 422


class PromptError(BackendError):
    """A template names fields that the task does not have."""

    code = "prompt"
    status = 422
    may_quote = True


class InputError(BackendError):
    """What the labeling config points to in the task's data cannot be read."""

    code = "task_data"
    status = 422
    may_quote = True


class UnknownJobError(BackendError):
    """There is no batch with this id."""

    code = "unknown_job"
    status = 404


class BusyError(BackendError):
    """All places for requests that wait for an LLM are taken."""

    code = "busy"
    status = 503


class StorageError(BackendError):
    """The database cannot be used."""

    code = "storage"
    status = 503
    may_pass = True


class CompletionError(BackendError):
    """A provider was asked and gave no completion, or not all of its replies: `paid` is what it gave."""

    code = "completion"
    status = 502
    paid: "Completion | None" = None


class AuthenticationFailedError(CompletionError):
    """The provider refused the key."""

    code = "provider_authentication"


class ModelNotFoundError(CompletionError):
    """The provider does not know the model, the deployment or the address."""

    code = "model_not_found"


class RateLimitedError(CompletionError):
    """The provider asked to slow down. `retry_after` is in seconds, or None when it did not say."""

    code = "rate_limited"
    status = 503
    may_pass = True

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class QuotaExhaustedError(CompletionError):
    """The account behind the key has no money or quota left."""

    code = "quota_exhausted"


class ContentFilteredError(CompletionError):
    """The provider's content filter refused the prompt or withheld the reply."""

    code = "content_filtered"
    status = 422


class CompletionRefusedError(CompletionError):
    """The provider refused the request for another reason of its own (any other 4xx)."""

    code = "completion_refused"


class PicturesRefusedError(CompletionRefusedError):
    """The model does not take pictures. Asked again with the text in them, it may answer."""

    code = "pictures_refused"
    status = 422


class CompletionTimeoutError(CompletionError):
    """No completion within the time allowed."""

    code = "completion_timeout"
    status = 504


class ConnectionFailedError(CompletionError):
    """The provider cannot be reached."""

    code = "connection_failed"
    may_pass = True


class ProviderDownError(CompletionError):
    """The provider failed on its side (5xx)."""

    code = "provider_down"
    may_pass = True


class UnusableReplyError(CompletionError):
    """The provider answered with something that is not a chat completion."""

    code = "unusable_reply"


def storable(text: str) -> str:
    """The text with U+FFFD for NUL and for halves of surrogate pairs, which no database takes."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def error_of_code(code: str, reason: str) -> BackendError:
    """The error that had this code, for a reason that was stored."""
    error = BackendError(reason)
    for kind in _all_kinds(BackendError):
        if kind.code == code:
            error.code, error.status = kind.code, kind.status
    error.logged = error.code
    return error


def _all_kinds(kind: type[BackendError]) -> list[type[BackendError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _all_kinds(child))]


def reason_phrase(text: str) -> str:
    """The text as the reason phrase of a status line: one line of printable ASCII, at most 200 characters.

    Anything else would turn gunicorn's answer into a bare 500. Letters with accents lose them; what has
    no ASCII form becomes `?`.
    """
    decomposed = unicodedata.normalize("NFKD", text)
    without_accents = "".join(char for char in decomposed if not unicodedata.combining(char))
    replaced = without_accents.replace("…", "...").replace("\u2013", "-").replace("\u2014", "-")
    ascii_text = replaced.encode("ascii", "replace").decode("ascii")
    printable = re.sub(r"[^\x20-\x7e]", " ", ascii_text)
    one_line = re.sub(r" {2,}", " ", printable).strip()
    if len(one_line) <= _MAX_REASON_PHRASE:
        return one_line or "Error"
    return one_line[: _MAX_REASON_PHRASE - 3].rstrip() + "..."
