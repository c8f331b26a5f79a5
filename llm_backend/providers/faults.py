"""What a call of the openai client raises → this project's errors, with a sentence that says what to do."""

import logging
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from llm_backend.errors import (
    AuthenticationFailedError,
    BackendError,
    CompletionError,
    CompletionRefusedError,
    CompletionTimeoutError,
    ConnectionFailedError,
    ContentFilteredError,
    ModelNotFoundError,
    ProviderDownError,
    QuotaExhaustedError,
    RateLimitedError,
    UnusableReplyError,
    storable,
)
from llm_backend.providers.http import AnswerTooLargeError, AnswerUnreadableError
from llm_backend.values import Endpoint, Json

_log = logging.getLogger(__name__)
_FILTER_CODES = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_MAX_QUOTED = 120
_MAX_SEARCHED = 4000
_SYSTEM_REFUSED = re.compile(
    r"system.{0,20}(role|message|prompt).{0,20}not.{0,10}support|not support.{0,10}\bsystem\b|"
    r"must alternate",
    re.IGNORECASE,
)
_ABOUT_FORMAT = re.compile(
    r"response_?format|json_?schema|json_object|json mode|structured output|guided|grammar", re.IGNORECASE
)
_ABOUT_ONE_SCHEMA = re.compile(
    r"invalid schema|schema (is )?(too|invalid|exceeds)|grammar|too many|enum|unsupported keyword",
    re.IGNORECASE,
)

# How endpoints say that a model takes no pictures at all; tests/test_providers.py has whole answers.
_NO_PICTURES = re.compile(
    r"image_url is only supported"
    r"|(unknown|unexpected|unsupported|invalid)\b.{0,40}\bimage_url"
    r"|content\W.{0,20}must be a string|(str type|valid string|a string) expected|be a valid string"
    r"|not a multi-?modal"
    r"|no endpoints found that support image"
    r"|missing data required for image input"
    r"|at most 0 image"
    r"|(image|picture|vision)\w*\b( \w+){0,3} (is|are) (not|n't) (supported|enabled|available)"
    r"|(doesn't|does not|do not|don't|cannot|can't|not) (support|accept|take|have)"
    r"( \w+){0,4} (image|picture|vision)",
    re.IGNORECASE,
)
# ... and how they say that of one picture, which another model would not take either
_THIS_PICTURE = re.compile(r"too (large|big|many|small)|(format|type|size|mime)\b", re.IGNORECASE)


def refused_parameter(error: Exception, arguments: Mapping[str, Any]) -> str | None:
    """The name of the argument that an answer refuses, if any; the caller leaves it out from then on.

    Of a `response_format` it is the kind (`json_schema`, `json_object`), or the name of the one schema that
    the endpoint cannot use; `system` stands for messages of that role, which some models do not take.
    """
    if not isinstance(error, openai.APIStatusError):
        return None
    if _SYSTEM_REFUSED.search(_message(error)) and any(
        message["role"] == "system" for message in arguments["messages"]
    ):
        return "system"
    if "response_format" in arguments and _is_about_format(error):
        return _refused_format(error, arguments["response_format"])
    if "logprobs" in arguments and error.status_code in (400, 403, 422) and "logprobs" in _message(error):
        return "logprobs"
    return _refused_number(error, {"temperature", "n", "logprobs"} & arguments.keys())


def _refused_number(error: openai.APIStatusError, sent: set[str]) -> str | None:
    """The sent parameter that a 400 or 422 is about."""
    if error.status_code not in (400, 422):
        return None
    named = _detail(error).get("param")
    if isinstance(named, str) and named.rpartition(".")[2] in sent:
        return named.rpartition(".")[2]
    message = _message(error)
    for name in sent:
        if re.search(rf"""(['"`]){name}\1""", message):
            return name
    if "temperature" in sent and re.search(r"\btemperature\b", message, re.IGNORECASE):
        return "temperature"
    if "n" in sent and re.search(r"\bn\s*(>|=|must|is not|should)", message):
        return "n"
    return None


def refuses_pictures(error: Exception) -> bool:
    """Whether an answer to a request with pictures says that the model takes none."""
    if not isinstance(error, openai.APIStatusError) or error.status_code in (401, 402, 403, 429):
        return False
    message = _message(error)
    found = _NO_PICTURES.search(message)
    return bool(found) and not ("image_url" not in message and _THIS_PICTURE.search(message))


def refused_schemas(response_format: Json) -> set[str]:
    """The names under which `refused_parameter` may have reported this response format."""
    return {response_format["type"], response_format["json_schema"]["name"]}


def _is_about_format(error: openai.APIStatusError) -> bool:
    """Whether the response format is refused. Some servers say 500 to a grammar that does not compile."""
    if error.status_code not in (400, 404, 415, 422, 500, 501):
        return False
    return bool(_ABOUT_FORMAT.search(f"{_message(error)} {error.response.text[:_MAX_SEARCHED]}"))


def _refused_format(error: openai.APIStatusError, response_format: Json) -> str:
    if response_format["type"] == "json_schema" and _ABOUT_ONE_SCHEMA.search(_message(error)):
        return str(response_format["json_schema"]["name"])
    return str(response_format["type"])


def to_backend_error(error: Exception, endpoint: Endpoint, title: str, model: str) -> BackendError:
    """This project's error for whatever a call of the openai client raised."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, openai.APIStatusError):
        return _from_status(error, endpoint, title, model)
    if isinstance(error, (openai.APITimeoutError, httpx2.TimeoutException)):
        return timed_out(title)
    if isinstance(error, (openai.APIConnectionError, httpx2.TransportError)):
        return _from_connection(error, endpoint, title)
    if not isinstance(error, (openai.OpenAIError, ValueError)):
        _log.warning("Unexpected error while asking %s", title, exc_info=error)
    return no_completion(title)


def timed_out(title: str) -> CompletionTimeoutError:
    """The error for a completion that did not come in time."""
    return CompletionTimeoutError(f"{title} did not answer in time: try again, or raise LLM_TIMEOUT")


def no_completion(title: str) -> UnusableReplyError:
    """The error for an answer that is something else."""
    return UnusableReplyError(f"{title} answered with something that is not a chat completion")


def _from_connection(error: Exception, endpoint: Endpoint, title: str) -> BackendError:
    cause = error.__cause__ or error
    if isinstance(cause, BackendError):
        return cause
    if isinstance(cause, AnswerTooLargeError):
        return UnusableReplyError(f"{title} answered with far more than a completion: check the address")
    if isinstance(cause, AnswerUnreadableError):
        return no_completion(title)
    where = f" at {endpoint.base_url}" if endpoint.base_url else ""
    if isinstance(cause, (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)):
        return ConnectionFailedError(f"{title}{where} broke off before its answer was whole: try again")
    return ConnectionFailedError(f"{title} cannot be reached{where}: check the address and the network")


def _from_status(error: openai.APIStatusError, endpoint: Endpoint, title: str, model: str) -> CompletionError:
    status = error.status_code
    code = str(_detail(error).get("code") or _detail(error).get("type") or "")
    key = "api_key in the extra params" if endpoint.from_project else "OPENAI_API_KEY"
    quoted = _quoted(error, endpoint)
    if status == 401:
        return AuthenticationFailedError(f"{title} refused the API key (401): check {key}")
    if status == 402 or code in _QUOTA_CODES:
        return QuotaExhaustedError(f"{title} has no quota left for this key ({status}): check its billing")
    if status == 403:
        return _with_quote(
            AuthenticationFailedError(f"{title} does not let this key do that (403): check {key}"), quoted
        )
    if status == 404:
        return ModelNotFoundError(
            f"{title} does not know the model {model} (404): check its name and the address"
        )
    if status == 429 and "too large" in _message(error).lower():  # waiting does not make it smaller
        return _with_quote(CompletionRefusedError(f"{title} refused the request ({status})"), quoted)
    if status == 429:
        return RateLimitedError(f"{title} asks to slow down (429): try again later", _retry_after(error))
    if code in _FILTER_CODES or "content_filter" in _message(error):
        return ContentFilteredError(f"The content filter of {title} refused the prompt ({status}): reword it")
    if status >= 500:
        return ProviderDownError(f"{title} failed on its side ({status}): try again later")
    if 300 <= status < 400:
        return CompletionRefusedError(f"{title} redirects elsewhere ({status}): check the address")
    return _with_quote(CompletionRefusedError(f"{title} refused the request ({status})"), quoted)


def _with_quote(error: CompletionError, quoted: str) -> CompletionError:
    """Adds to the reason what the provider says. A log does not show it, since it may repeat the prompt."""
    error.reason += quoted
    return error


def _detail(error: openai.APIStatusError) -> dict[str, Any]:
    """The `error` object of the body; the openai client unwraps it where it is an object."""
    return error.body if isinstance(error.body, dict) else {}


def _message(error: openai.APIStatusError) -> str:
    message = _detail(error).get("message")
    return message if isinstance(message, str) else str(error.message)


def _quoted(error: openai.APIStatusError, endpoint: Endpoint) -> str:
    """What the provider itself says, short and without the key."""
    message = storable(" ".join(_message(error).split()))
    if endpoint.api_key:
        message = message.replace(endpoint.api_key, "***")
    return f": {message[:_MAX_QUOTED]}" if message else ""


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds to wait, as the headers say it: milliseconds, seconds, or a date."""
    headers = error.response.headers
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time()) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
