"""One endpoint's chat completions: what real endpoints do differently is handled here, once.

Parameters that a model refuses are left out, or asked for in a simpler form, and that is remembered; where
`n` is not honoured, replies are asked for one by one, side by side; this is also the only place that retries.
"""

import contextvars
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, wait
from typing import Any, Protocol

import httpx2
from openai import OpenAI
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from llm_backend.errors import (
    BackendError,
    ConnectionFailedError,
    ContentFilteredError,
    PicturesRefusedError,
    RateLimitedError,
    UnusableReplyError,
    storable,
)
from llm_backend.providers import http
from llm_backend.providers.faults import (
    no_completion,
    refused_parameter,
    refused_schemas,
    refuses_pictures,
    timed_out,
    to_backend_error,
)
from llm_backend.values import Completion, CompletionRequest, Endpoint, Json, Message, Reply, TextPart

_log = logging.getLogger(__name__)
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0
_CONNECT_SECONDS = 10.0
_MOST_TOKENS = 1 << 30
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)


class ProviderModule(Protocol):
    """What each provider's module has: a title for people, and what is particular about it."""

    TITLE: str
    NOT_HONOURED: frozenset[str]
    USES_PROXY: bool

    def make_client(self, endpoint: Endpoint, http_client: httpx2.Client) -> OpenAI:
        """The openai client for the endpoint, with its own retries off."""
        ...


class ChatClient:
    """Asks one endpoint. Its connections and what it has learnt of the models last as long as it does."""

    def __init__(
        self,
        endpoint: Endpoint,
        provider: ProviderModule,
        *,
        pool: Executor,
        max_retries: int,
        allowed_hosts: Collection[str],
        on_retry: Callable[[], None],
    ) -> None:
        self._on_retry = on_retry
        self._endpoint = endpoint
        self._provider = provider
        self._pool = pool
        self._max_retries = max_retries
        self._allowed_hosts = allowed_hosts
        self._lock = threading.Lock()
        self._random = random.Random()
        self._closing = threading.Event()
        self._clients: dict[bool, OpenAI] = {}  # for people who wait, and for batches
        self._refused: dict[str, frozenset[str]] = {}

    def complete(self, request: CompletionRequest, timeout: float) -> Completion:
        """See `Providers.complete`."""
        deadline = time.monotonic() + timeout
        if request.num_replies == 1 or "n" in self._not_honoured(request.model):
            return self._ask_side_by_side(request, [1] * request.num_replies, deadline)
        completion = self._ask_side_by_side(request, [request.num_replies], deadline)
        missing = request.num_replies - len(completion.replies)
        if missing > 0 and "n" in self._not_honoured(request.model):
            rest = self._ask_side_by_side(request, [1] * missing, deadline)
            completion = _joined([completion, rest])
        return completion

    def complete_in_turn(self, request: CompletionRequest, timeout: float) -> Completion:
        """See `Providers.complete_for_batch`. Replies that do not come together are asked for in turn."""
        deadline = time.monotonic() + timeout
        completions: list[Completion] = []
        missing = request.num_replies
        while missing > 0:
            count = 1 if "n" in self._not_honoured(request.model) else missing
            try:
                completions.append(self._ask(request, count, deadline, for_batch=True))
            except (RateLimitedError, ConnectionFailedError) as error:
                # The caller slows down and asks for the rest; what has come is not paid for again.
                error.paid = _joined(completions) if completions else None
                raise
            except BackendError:
                if not completions:
                    raise
                break
            missing -= len(completions[-1].replies)
        return _joined(completions)

    def close(self) -> None:
        """Closes the connections; nothing is tried again."""
        self._closing.set()
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _ask_side_by_side(self, request: CompletionRequest, counts: list[int], deadline: float) -> Completion:
        """All the calls at once. What fails counts only when nothing succeeds."""
        calls = [
            self._pool.submit(contextvars.copy_context().run, self._ask, request, count, deadline)
            for count in counts
        ]
        done, late = wait(calls, timeout=max(0.0, deadline - time.monotonic()))
        for call in late:
            call.cancel()
        succeeded = [call.result() for call in calls if call in done and not call.exception()]
        failures = [call.exception() for call in calls if call in done and call.exception()]
        failure = failures[0] if failures else timed_out(self._provider.TITLE) if late else None
        if failure and not succeeded:
            raise failure
        if failure:
            said = failure.logged if isinstance(failure, BackendError) else type(failure).__name__
            _log.warning("%d of %d replies failed: %s", len(counts) - len(succeeded), len(counts), said)
        return _joined(succeeded)

    def _ask(
        self, request: CompletionRequest, count: int, deadline: float, *, for_batch: bool = False
    ) -> Completion:
        """One call, with its retries."""
        http.deadline.set(deadline)
        has_pictures = any(not isinstance(message.content, str) for message in request.messages)
        failures = 0
        while True:
            if has_pictures and "pictures" in self._not_honoured(request.model):
                raise PicturesRefusedError(
                    f"{self._provider.TITLE} takes no pictures for {request.model}: "
                    "set IMAGE_INPUT=ocr, or choose a model that sees"
                )
            arguments = self._arguments(request, count)
            try:
                return self._call(arguments, deadline, for_batch=for_batch)
            except Exception as error:
                _log.debug("%s has not answered: %s", self._provider.TITLE, error)
                if has_pictures and refuses_pictures(error):
                    self._remember_refused(request.model, "pictures")
                    continue
                refused = refused_parameter(error, arguments)
                if refused:
                    self._remember_refused(request.model, refused)
                    count = 1 if refused == "n" else count
                    continue
                failure = to_backend_error(error, self._endpoint, self._provider.TITLE, request.model)
            failures += 1
            pause = self._pause(failure, failures)
            if isinstance(failure, RateLimitedError) and for_batch:
                raise failure
            if pause is None or time.monotonic() + pause >= deadline:
                raise failure
            _log.info("%s; trying again in %.1f s", failure.logged, pause)
            if self._closing.wait(pause):
                raise failure
            self._on_retry()

    def _call(self, arguments: dict[str, Any], deadline: float, *, for_batch: bool) -> Completion:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise timed_out(self._provider.TITLE)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("Sent to %s: %s", self._provider.TITLE, _without_pictures(arguments))
        # `post` is what `chat.completions.create` calls, without its walk through types that are right here.
        answer = self._connected(for_batch=for_batch).post(
            "/chat/completions",
            cast_to=ChatCompletion,
            body=arguments,
            options={"timeout": httpx2.Timeout(remaining, connect=min(remaining, _CONNECT_SECONDS))},
        )
        _log.debug("%s answers: %s", self._provider.TITLE, answer)
        try:
            completion = self._completion(answer)
        except (AttributeError, TypeError):  # the client does not check the types of what it reads
            raise no_completion(self._provider.TITLE) from None
        if len(answer.choices) < arguments.get("n", 1):
            self._remember_refused(arguments["model"], "n")
        return completion

    def _arguments(self, request: CompletionRequest, count: int) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": request.model,
            "messages": _messages(request, takes_system="system" not in self._not_honoured(request.model)),
            "temperature": request.temperature,
        }
        if count > 1:
            arguments["n"] = count
        if request.logprobs:
            arguments["logprobs"] = True
        refused = self._not_honoured(request.model)
        response_format = _response_format(request.response_format, refused)
        if response_format:
            arguments["response_format"] = response_format
        return {name: value for name, value in arguments.items() if name not in refused}

    def _completion(self, answer: Any) -> Completion:
        """The answer's replies.

        Raises:
            UnusableReplyError: there is no text in it.
            ContentFilteredError: the provider withheld it.
        """
        choices = answer.choices if isinstance(answer, ChatCompletion) else None
        if not choices:
            raise no_completion(self._provider.TITLE)
        read = [
            Reply(
                storable(_THOUGHTS.sub("", (choice.message and choice.message.content) or "")),
                _tokens(choice),
            )
            for choice in choices
        ]
        replies = tuple(reply for reply in read if reply.text.strip())
        if not replies:
            first = choices[0]
            if first.finish_reason == "content_filter" or (first.message and first.message.refusal):
                raise ContentFilteredError(
                    f"The content filter of {self._provider.TITLE} withheld the reply: reword the prompt"
                )
            raise UnusableReplyError(
                f"{self._provider.TITLE} gave an empty reply: try again or reword the prompt"
            )
        usage = answer.usage
        return Completion(
            replies,
            prompt_tokens=_count(usage.prompt_tokens) if usage else 0,
            completion_tokens=_count(usage.completion_tokens) if usage else 0,
        )

    def _pause(self, failure: BackendError, failures: int) -> float | None:
        """Seconds to wait before the next try, or None when another try would not help."""
        if not failure.may_pass:
            return None
        backoff = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** (failures - 1))
        backoff *= self._random.uniform(0.75, 1.0)
        if isinstance(failure, RateLimitedError):
            return max(backoff, failure.retry_after or 0.0)
        return backoff if failures <= self._max_retries else None

    def _connected(self, *, for_batch: bool) -> OpenAI:
        with self._lock:
            if for_batch not in self._clients:
                self._clients[for_batch] = self._provider.make_client(
                    self._endpoint,
                    http.make_http_client(
                        uses_proxy=self._provider.USES_PROXY,
                        checks_addresses=self._endpoint.from_project,
                        allowed_hosts=self._allowed_hosts,
                        for_batches=for_batch,
                    ),
                )
            return self._clients[for_batch]

    def _not_honoured(self, model: str) -> frozenset[str]:
        return self._refused.get(model, self._provider.NOT_HONOURED)

    def _remember_refused(self, model: str, parameter: str) -> None:
        _log.info(
            "%s does not take %s for %s; it is left out from now on.", self._provider.TITLE, parameter, model
        )
        with self._lock:
            self._refused[model] = self._not_honoured(model) | {parameter}


def _without_pictures(value: Any) -> Any:
    """The arguments of a call as a log shows them: of a picture only how long its data URL is."""
    if isinstance(value, dict):
        return {name: _without_pictures(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_pictures(item) for item in value]
    if isinstance(value, str) and value.startswith("data:image/"):
        return f"a picture of {len(value)} characters"
    return value


def _content(message: Message) -> str | list[dict[str, Any]]:
    """The message's content as the Chat Completions API has it."""
    if isinstance(message.content, str):
        return message.content
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": {"url": part.data_url}}
        for part in message.content
    ]


def _messages(request: CompletionRequest, *, takes_system: bool) -> list[Json]:
    """The messages as the API has them. Where system messages are refused, the next one begins with them."""
    messages: list[Json] = []
    for message in request.messages:
        before = messages[-1] if messages and messages[-1]["role"] == "system" and not takes_system else None
        content = _content(message)
        if before and isinstance(content, str):
            messages[-1] = {"role": message.role, "content": f"{before['content']}\n\n{content}"}
        elif before:
            messages[-1] = {
                "role": message.role,
                "content": [{"type": "text", "text": before["content"]}, *content],
            }
        else:
            messages.append({"role": message.role, "content": content})
    for last in messages if not takes_system else ():
        last["role"] = "user" if last["role"] == "system" else last["role"]
    return messages


def _response_format(wanted: Json | None, refused: Collection[str]) -> Json | None:
    """The best that the endpoint knows: the schema, any JSON object, or nothing."""
    if wanted is None or not refused_schemas(wanted) & set(refused):
        return wanted
    return None if "json_object" in refused else {"type": "json_object"}


def _count(tokens: Any) -> int:
    """The number of tokens, or 0 where it cannot be one: a paid answer must not fail for it."""
    return tokens if type(tokens) is int and 0 <= tokens < _MOST_TOKENS else 0


def _tokens(choice: Choice) -> tuple[tuple[str, float], ...]:
    """The tokens of a reply as text. A character that several tokens share goes to the last of them."""
    content = choice.logprobs.content if choice.logprobs else None
    tokens: list[tuple[str, float]] = []
    pending, logprob = b"", 0.0
    for token in content or ():
        pending += token.token.encode() if token.bytes is None else bytes(token.bytes)
        logprob += token.logprob
        try:
            tokens.append((pending.decode(), logprob))
        except UnicodeDecodeError:
            continue
        pending, logprob = b"", 0.0
    return tuple(tokens)


def _joined(completions: list[Completion]) -> Completion:
    return Completion(
        replies=tuple(reply for completion in completions for reply in completion.replies),
        prompt_tokens=sum(completion.prompt_tokens for completion in completions),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
    )
