"""Completions, paid for once: what has been asked before is answered from the database."""

import functools
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields, replace

from llm_backend.asking.plan import Plan
from llm_backend.errors import CompletionError
from llm_backend.operations.metrics import Metrics
from llm_backend.providers import Providers
from llm_backend.reading import FileReader
from llm_backend.storage import StoredCompletions
from llm_backend.storage.completions import KeyedReply
from llm_backend.storage.write_behind import Record, WriteBehind
from llm_backend.values import Completion, CompletionRequest, Json, Reply

_SAME_REQUEST_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.05


class Completer:
    """Asks for what is not there yet, and has it written."""

    def __init__(
        self,
        providers: Providers,
        reader: FileReader,
        stored: StoredCompletions,
        recorder: WriteBehind,
        metrics: Metrics,
    ) -> None:
        self._providers = providers
        self.reader = reader
        self._stored = stored
        self._recorder = recorder
        self._metrics = metrics
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Completion]] = {}
        self._people = 0

    def ask_anew(self, plan: Plan, data: Json) -> Completion:
        """A new completion for a person who waits, who wants another answer than last time.

        Only the same request within 3 seconds, which Label Studio makes when a person submits, shares the
        first one's answer.

        Raises:
            BackendError: the task cannot be read, or nothing was answered.
        """
        with self._person_waits():
            return plan.asking(data, self.reader, functools.partial(self._ask_anew, plan))

    def _ask_anew(self, plan: Plan, request: CompletionRequest) -> Completion:
        keys = reply_keys(plan, request)
        with self._lock:
            under_way = self._under_way.get(keys[0])
            if under_way is None:
                mine = self._under_way[keys[0]] = Future()
        if under_way is not None:
            self._metrics.looked_up(found=True)
            return replace(under_way.result(), prompt_tokens=0, completion_tokens=0)  # paid for once
        try:
            recent = self._stored.get(keys, max_age=_SAME_REQUEST_SECONDS)
            there = _from_stored(keys, recent)
            self._metrics.looked_up(found=there is not None)
            completion = there or self._ask(plan, request, keys)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(completion)
            return completion
        finally:
            with self._lock:
                del self._under_way[keys[0]]

    def ask_once(
        self, plan: Plan, data: Json, *, patient: bool = False
    ) -> tuple[Completion, tuple[KeyedReply, ...]]:
        """The completion for a task of a batch, and those of its replies that still have to be written.

        Raises:
            RateLimitedError: the endpoint asks to slow down; only with `patient` this is waited for here.
            BackendError: the task cannot be read, or nothing was answered.
        """
        with self._person_waits() if patient else nullcontext():
            return plan.asking(data, self.reader, functools.partial(self._ask_once, plan, patient))

    def close(self, deadline: float) -> bool:
        """Waits for what people wait for, until `deadline` of the monotonic clock; whether all has come."""
        while self._people and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        return not self._people

    @contextmanager
    def _person_waits(self) -> Iterator[None]:
        with self._lock:
            self._people += 1
        try:
            yield
        finally:
            with self._lock:
                self._people -= 1

    def _ask_once(
        self, plan: Plan, patient: bool, request: CompletionRequest
    ) -> tuple[Completion, tuple[KeyedReply, ...]]:
        keys = reply_keys(plan, request)
        there = self._stored.get(keys)
        missing = [key for key in keys if key not in there]
        self._metrics.looked_up(found=not missing)
        if not missing:
            return _from_stored(keys, there) or Completion(()), ()
        endpoint = plan.parameters.endpoint
        try:
            ask = self._providers.complete if patient else self._providers.complete_for_batch
            answer = ask(endpoint, replace(request, num_replies=len(missing)))
        except CompletionError as error:
            if error.replies:
                self._recorder.put(Record(tuple(map(KeyedReply, missing, error.replies))))
            raise
        new = tuple(map(KeyedReply, missing, answer.replies))
        if len(new) < len(missing):  # what there is counts, and the rest is asked for next time
            self._recorder.put(Record(new))
        replies = there | {item.key: item.reply for item in new}
        return replace(answer, replies=tuple(replies[key] for key in keys if key in replies)), new

    def _ask(self, plan: Plan, request: CompletionRequest, keys: Sequence[str]) -> Completion:
        completion = self._providers.complete(plan.parameters.endpoint, request)
        self._recorder.put(Record(tuple(map(KeyedReply, keys, completion.replies))))
        return completion


def reply_keys(plan: Plan, request: CompletionRequest) -> list[str]:
    """One key for each reply: all that shapes the answer, what is sent, and the number of the reply."""
    asked = [getattr(request, field.name) for field in fields(request) if field.name != "num_replies"]
    shape = hashlib.sha256(json.dumps([plan.fingerprint, asked], default=asdict).encode())
    keys = []
    for number in range(request.num_replies):
        numbered = shape.copy()
        numbered.update(b"#%d" % number)
        keys.append(numbered.hexdigest())
    return keys


def _from_stored(keys: Sequence[str], there: dict[str, Reply]) -> Completion | None:
    """The completion that the stored replies make, if all are there."""
    return Completion(tuple(there[key] for key in keys)) if all(key in there for key in keys) else None
