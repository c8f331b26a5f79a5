"""The one paying door: a question → its completion, from the database where it is there, else paid for once.

Nothing else calls a provider.
"""

import enum
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace

from llm_backend.asking.question import Question
from llm_backend.asking.version_1 import keys_of_version_1
from llm_backend.errors import CompletionError
from llm_backend.operations.metrics import Metrics
from llm_backend.providers.clients import Providers
from llm_backend.storage import StoredCompletions
from llm_backend.storage.completions import KeyedReply
from llm_backend.storage.ledger import Payment
from llm_backend.storage.write_behind import Record, WriteBehind
from llm_backend.values import Completion, CompletionRequest, Endpoint, Reply

_SAME_REQUEST_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.05


class Purpose(enum.StrEnum):
    """What a completion is for, as the ledger says it."""

    INTERACTIVE = "interactive"  # a person has typed a prompt and wants another answer than last time
    OPENED = "opened"  # a person has opened a task
    BATCH = "batch"
    CHECK = "check"  # an operator tries whether it works

    @property
    def is_for_person(self) -> bool:
        """Whether a person waits: a 429 is then waited for at the provider."""
        return self is not Purpose.BATCH

    @property
    def may_be_stored(self) -> bool:
        """Whether an answer of before will do."""
        return self in (Purpose.OPENED, Purpose.BATCH)


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, for the ledger, and the endpoint that is asked."""

    purpose: Purpose
    endpoint: Endpoint
    project: str = ""
    task_id: int | None = None


class Completions:
    """Looks up, asks for what is missing, and queues what was paid for to be written."""

    def __init__(
        self, providers: Providers, stored: StoredCompletions, writer: WriteBehind, metrics: Metrics
    ) -> None:
        self._providers = providers
        self._stored = stored
        self._writer = writer
        self._metrics = metrics
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Completion]] = {}
        self._people = 0

    def get(self, question: Question, call: Call) -> Completion:
        """The completion; its tokens are those that were paid for now.

        A person gets a new one. Only the same request within 3 seconds, which Label Studio makes when a
        person submits, shares the first one's answer. A question that is under way is not asked twice: the
        second caller waits for the answer.

        Raises:
            RateLimitedError: the endpoint asks to slow down; only for a batch: for people this is waited for.
            CompletionError: nothing was answered.
        """
        key = question.keys[0]
        with self._person_waits(call.purpose):
            while True:
                with self._lock:
                    theirs = self._under_way.get(key)
                    if theirs is None:
                        mine = self._under_way[key] = Future()
                        break
                if theirs.exception() is None:
                    self._metrics.looked_up(found=True)
                    return Completion(theirs.result().replies)
            try:
                completion = self._look_up_or_pay(question, call)
            except BaseException as error:
                mine.set_exception(error)
                raise
            else:
                mine.set_result(completion)
                return completion
            finally:
                with self._lock:
                    del self._under_way[key]

    def check(self, request: CompletionRequest, endpoint: Endpoint, *, in_ledger: bool) -> Completion:
        """A completion that an operator asks for to see that it works; the replies are not kept.

        Raises:
            CompletionError: nothing was answered.
        """
        outcome, paid = "ok", None
        try:
            completion = paid = self._providers.complete(endpoint, request)
        except CompletionError as error:
            outcome, paid = error.code, error.paid
            raise
        finally:
            if in_ledger and paid is not None:
                payment = _payment(Call(Purpose.CHECK, endpoint), request.model, "", paid, outcome)
                self._writer.put(Record(payment=payment))
        return completion

    def close(self, deadline: float) -> bool:
        """Waits for what people wait for, until `deadline` of the monotonic clock; whether all has come."""
        while self._people and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        return not self._people

    @contextmanager
    def _person_waits(self, purpose: Purpose) -> Iterator[None]:
        if not purpose.is_for_person:
            yield
            return
        with self._lock:
            self._people += 1
        try:
            yield
        finally:
            with self._lock:
                self._people -= 1

    def _look_up_or_pay(self, question: Question, call: Call) -> Completion:
        keys = question.keys
        if call.purpose.may_be_stored:
            there = self._stored.get(keys)
            if len(there) < len(keys) and self._stored.has_keys_of_version_1():
                there = self._stored_by_version_1(question) | there
        else:  # all of a recent answer, or a new one
            recent = self._stored.get(keys, max_age=_SAME_REQUEST_SECONDS)
            there = recent if len(recent) == len(keys) else {}
        missing = [key for key in keys if key not in there]
        self._metrics.looked_up(found=not missing)
        if not missing:
            return Completion(tuple(there[key] for key in keys))
        new = self._pay(question, missing, call)
        replies = there | dict(zip(missing, new.replies, strict=False))
        return replace(new, replies=tuple(replies[key] for key in keys if key in replies))

    def _stored_by_version_1(self, question: Question) -> dict[str, Reply]:
        """The replies that the database had before its keys were made as they are now, by today's keys."""
        today = {
            old: new
            for keys in keys_of_version_1(question)
            for old, new in zip(keys, question.keys, strict=True)
        }
        return {today[old]: reply for old, reply in self._stored.get(list(today)).items()}

    def _pay(self, question: Question, keys: Sequence[str], call: Call) -> Completion:
        """A completion for these keys, paid for; what has come is written even where not all has come."""
        ask = self._providers.complete if call.purpose.is_for_person else self._providers.complete_for_batch
        try:
            completion = ask(call.endpoint, replace(question.request, num_replies=len(keys)))
        except CompletionError as error:
            if error.paid is not None:
                self._settle(question, keys, call, error.paid, error.code)
            raise
        self._settle(question, keys, call, completion, "ok")
        return completion

    def _settle(
        self, question: Question, keys: Sequence[str], call: Call, paid: Completion, outcome: str
    ) -> None:
        """Queues what was paid for to be written: the replies, and the row of the ledger."""
        replies = tuple(map(KeyedReply, keys, paid.replies))
        shape = question.shape
        payment = _payment(call, shape.model.name, shape.model_version, paid, outcome)
        payment = replace(payment, keys=tuple(reply.key for reply in replies))
        self._writer.put(Record(replies=replies, payment=payment))


def _payment(call: Call, model: str, model_version: str, paid: Completion, outcome: str) -> Payment:
    """The row of the ledger for a call."""
    return Payment(
        project=call.project,
        task_id=call.task_id,
        purpose=call.purpose.value,
        provider=call.endpoint.provider,
        model=model,
        model_version=model_version,
        tokens_in=paid.prompt_tokens,
        tokens_cached=paid.cached_tokens,
        tokens_out=paid.completion_tokens,
        cost=paid.cost,
        outcome=outcome,
    )
