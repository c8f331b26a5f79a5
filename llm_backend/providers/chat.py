"""Chat completions of one endpoint: the one layer that retries and that handles how real endpoints differ.

It leaves out the parameters that a model refuses, or asks for them in a simpler form, and remembers that.
Where `n` is not honoured, it asks for replies one by one, side by side.
"""

import contextvars
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, wait
from dataclasses import replace
from typing import Any

import httpx2
from openai import Omit, OpenAI

from llm_backend.errors import (
    BackendError,
    CompletionError,
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
from llm_backend.providers.provider import Provider
from llm_backend.values import Completion, CompletionRequest, Endpoint, Json, Message, Reply, TextPart

_log = logging.getLogger(__name__)
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0
_CONNECT_SECONDS = 10.0
_MOST_TOKENS = 1 << 30
_MOST_DOLLARS = 1e6
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)
# What the client says of itself beside each request; no provider needs it, and it takes a tenth of the time.
_LEFT_OUT = {"x-stainless-retry-count": Omit(), "x-stainless-read-timeout": Omit()}


class ChatClient:
    """Asks one endpoint. Its connections and what it has learnt of the models last as long as it does."""

    def __init__(
        self,
        endpoint: Endpoint,
        provider: Provider,
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
        together = "n" not in self._not_honoured(request.model)
        counts = [request.num_replies] if together else [1] * request.num_replies
        completion = self._ask_side_by_side(request, counts, deadline)
        missing = request.num_replies - len(completion.replies)
        if missing > 0 and together and "n" in self._not_honoured(request.model):
            try:
                rest = self._ask_side_by_side(request, [1] * missing, deadline)
                completion = _joined([completion, rest])
            except BackendError as error:
                completion = _joined([completion, *_paid([error])])
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
            except BackendError as error:
                if not completions:
                    raise
                if isinstance(error, (RateLimitedError, ConnectionFailedError)):
                    # The caller slows down and asks for the rest; what has come is not paid for again.
                    error.paid = _joined(completions)
                    raise
                completions += _paid([error])
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
        if len(counts) == 1:
            return self._ask(request, counts[0], deadline)
        calls = [
            self._pool.submit(contextvars.copy_context().run, self._ask, request, count, deadline)
            for count in counts
        ]
        done, late = wait(calls, timeout=max(0.0, deadline - time.monotonic()))
        for call in late:
            call.cancel()
        succeeded = [call.result() for call in calls if call in done and not call.exception()]
        failures = [error for call in calls if call in done and (error := call.exception())]
        paid = _paid(failures)
        failure = failures[0] if failures else timed_out(self._provider.title) if late else None
        if failure and not succeeded:
            if paid and isinstance(failure, CompletionError):
                failure.paid = _joined(paid)
            raise failure
        if failure:
            said = failure.logged if isinstance(failure, BackendError) else type(failure).__name__
            _log.warning("%d of %d replies failed: %s", len(counts) - len(succeeded), len(counts), said)
        return _joined([*succeeded, *paid])

    def _ask(
        self, request: CompletionRequest, count: int, deadline: float, *, for_batch: bool = False
    ) -> Completion:
        """One call, with its retries."""
        http.deadline.set(deadline)
        title = self._provider.title
        has_pictures = any(not isinstance(message.content, str) for message in request.messages)
        failures = 0
        while True:
            refused = self._not_honoured(request.model)
            if has_pictures and "pictures" in refused:
                raise PicturesRefusedError(
                    f"{title} takes no pictures for {request.model}: "
                    "set IMAGE_INPUT=ocr, or choose a model that sees"
                )
            arguments = _arguments(request, count, refused)
            try:
                return self._call(arguments, deadline, for_batch=for_batch)
            except Exception as error:
                _log.debug("%s has not answered: %s", title, error)
                if has_pictures and refuses_pictures(error):
                    self._remember_refused(request.model, "pictures")
                    continue
                parameter = refused_parameter(error, arguments)
                if parameter:
                    self._remember_refused(request.model, parameter)
                    count = 1 if parameter == "n" else count
                    continue
                failure = to_backend_error(error, self._endpoint, title, request.model)
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

    def _call(self, arguments: Json, deadline: float, *, for_batch: bool) -> Completion:
        title = self._provider.title
        client = self._clients.get(for_batch) or self._connected(deadline, for_batch=for_batch)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise timed_out(title)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("Sent to %s: %s", title, _without_pictures(arguments))
        # `chat.completions.create` calls `post`, too, after a walk through arguments that are right here; and
        # making its objects of an answer costs more than the check below, which they would need all the same.
        response = client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body=arguments,
            options={
                "timeout": httpx2.Timeout(remaining, connect=min(remaining, _CONNECT_SECONDS)),
                "headers": _LEFT_OUT,
            },
        )
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s answers: %s", title, response.text)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            raise no_completion(title) from None
        if not isinstance(answer, dict):
            raise no_completion(title)
        paid = _usage(answer.get("usage"))
        try:
            replies = self._replies(answer["choices"])
        except (CompletionError, AttributeError, LookupError, TypeError, ValueError) as error:
            failure = error if isinstance(error, CompletionError) else no_completion(title)
            failure.paid = paid if paid != Completion(()) else None
            raise failure from None
        if len(answer["choices"]) < arguments.get("n", 1):
            self._remember_refused(arguments["model"], "n")
        return replace(paid, replies=replies)

    def _replies(self, choices: list[Json]) -> tuple[Reply, ...]:
        """The replies with a text.

        Raises:
            UnusableReplyError: there is none.
            ContentFilteredError: the provider withheld it.
            AttributeError, LookupError, TypeError, ValueError: this is not a chat completion.
        """
        first = choices[0]
        messages = [choice.get("message") or {} for choice in choices]
        texts = [storable(_THOUGHTS.sub("", message.get("content") or "")) for message in messages]
        replies = tuple(
            Reply(text, _tokens(choice)) for text, choice in zip(texts, choices, strict=True) if text.strip()
        )
        if replies:
            return replies
        if first.get("finish_reason") == "content_filter" or messages[0].get("refusal"):
            raise ContentFilteredError(
                f"The content filter of {self._provider.title} withheld the reply: reword the prompt"
            )
        raise UnusableReplyError(
            f"{self._provider.title} gave an empty reply: try again or reword the prompt"
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

    def _connected(self, deadline: float, *, for_batch: bool) -> OpenAI:
        """The openai client. Another thread makes it: an embedded model may load longer than people wait."""
        made = self._pool.submit(self._connect, for_batch)
        if not wait([made], timeout=max(0.0, deadline - time.monotonic())).done:
            raise timed_out(self._provider.title)
        return made.result()

    def _connect(self, for_batch: bool) -> OpenAI:
        with self._lock:
            if for_batch not in self._clients:
                self._clients[for_batch] = self._provider.make_client(
                    self._endpoint,
                    http.make_http_client(
                        uses_proxy=self._provider.uses_proxy,
                        checks_addresses=self._endpoint.from_project,
                        allowed_hosts=self._allowed_hosts,
                        for_batches=for_batch,
                    ),
                )
            return self._clients[for_batch]

    def _not_honoured(self, model: str) -> frozenset[str]:
        return self._refused.get(model, self._provider.not_honoured)

    def _remember_refused(self, model: str, parameter: str) -> None:
        _log.info(
            "%s does not take %s for %s; it is left out from now on.", self._provider.title, parameter, model
        )
        with self._lock:
            self._refused[model] = self._not_honoured(model) | {parameter}


def _arguments(request: CompletionRequest, count: int, refused: frozenset[str]) -> Json:
    """The body of the call, without what the model refuses."""
    arguments: Json = {
        "model": request.model,
        "messages": _messages(request, takes_system="system" not in refused),
        "temperature": request.temperature,
    }
    if count > 1:
        arguments["n"] = count
    if request.logprobs:
        arguments["logprobs"] = True
    response_format = _response_format(request.response_format, refused)
    if response_format:
        arguments["response_format"] = response_format
    return {name: value for name, value in arguments.items() if name not in refused}


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


def _usage(usage: Any) -> Completion:
    """What an answer has cost, as a completion without replies."""
    if not isinstance(usage, dict):
        return Completion(())
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt_tokens = _count(usage.get("prompt_tokens"))
    return Completion(
        (),
        prompt_tokens=prompt_tokens,
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=min(prompt_tokens, _count(cached)),
        cost=_dollars(usage.get("cost")),
    )


def _count(tokens: Any) -> int:
    """The number of tokens, or 0 where it cannot be one: a paid answer must not fail for it."""
    return tokens if type(tokens) is int and 0 <= tokens < _MOST_TOKENS else 0


def _dollars(cost: Any) -> float | None:
    is_number = isinstance(cost, (int, float)) and not isinstance(cost, bool)
    return float(cost) if is_number and 0 <= cost <= _MOST_DOLLARS else None


def _tokens(choice: Json) -> tuple[tuple[str, float], ...]:
    """The tokens of a reply as text. A character that several tokens share goes to the last of them."""
    logprobs = choice.get("logprobs") or {}
    tokens: list[tuple[str, float]] = []
    pending, logprob = b"", 0.0
    for token in logprobs.get("content") or ():
        as_bytes = token.get("bytes")
        pending += token["token"].encode() if as_bytes is None else bytes([*as_bytes])
        logprob += token["logprob"]
        try:
            tokens.append((pending.decode(), logprob))
        except UnicodeDecodeError:
            continue
        pending, logprob = b"", 0.0
    return tuple(tokens)


def _paid(errors: Sequence[BaseException]) -> list[Completion]:
    """What failed calls have cost, of those whose answers said so."""
    return [error.paid for error in errors if isinstance(error, CompletionError) and error.paid]


def _joined(completions: Sequence[Completion]) -> Completion:
    """All the replies and what they cost together, which is known only if it is of each."""
    if len(completions) == 1:
        return completions[0]
    costs = [completion.cost for completion in completions]
    return Completion(
        replies=tuple(reply for completion in completions for reply in completion.replies),
        prompt_tokens=sum(completion.prompt_tokens for completion in completions),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
        cached_tokens=sum(completion.cached_tokens for completion in completions),
        cost=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
    )
