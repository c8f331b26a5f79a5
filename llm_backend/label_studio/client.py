"""The only door to Label Studio's API: label-studio-sdk, with our tokens, our limits and our errors.

The answers that are told apart here are those of Label Studio 1.23.2; the tests have them.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

from llm_backend.errors import BackendError
from llm_backend.label_studio.connections import connections, why_unreachable
from llm_backend.label_studio.project_key import ProjectKey, key_of
from llm_backend.label_studio.tokens import WHERE_TOKENS_ARE, AccessTokens, kind_of, problem_of
from llm_backend.settings import Settings
from llm_backend.values import Json

if TYPE_CHECKING:
    from label_studio_sdk.client import LabelStudio

_log = logging.getLogger(__name__)
_PAGE_SIZE = 100
_MOST_TASKS_ASKED_FOR = 200
_NOT_SHOWN = (403, 404)
_NO_TOKEN = httpx.Auth()
Given = TypeVar("Given")

# What Label Studio's 401 says → what is wrong with the token, and what to do
_REFUSALS = {
    "legacy token authentication has been disabled": "is a legacy token, and this Label Studio has those "
    f"switched off: {WHERE_TOKENS_ARE}",
    "Token is blacklisted": f"has been revoked: {WHERE_TOKENS_ARE}",
    "Token is invalid": f"is a personal access token that this Label Studio has not made: {WHERE_TOKENS_ARE}",
    "Invalid token.": "is a legacy token that no user of this Label Studio has: copy it again, or "
    f"{WHERE_TOKENS_ARE}",
    "credentials were not provided": "is a personal access token, and this Label Studio has those switched "
    "off: switch them on in Organization > Access Token Settings",
}


class LabelStudioError(BackendError):
    """Label Studio cannot be used; the reason says what to do.

    `answered` is the status that it answered with, 0 where there was no answer. `body` is its answer, which
    may repeat what it was sent and belongs into no log above DEBUG.
    """

    code = "label_studio"
    status = 502

    def __init__(self, reason: str, answered: int = 0, body: Any = None) -> None:
        super().__init__(reason)
        self.answered = answered
        self.body = body

    @property
    def detail(self) -> str:
        """Label Studio's own sentence about the error; empty where it has none."""
        return str(self.body.get("detail", "")) if isinstance(self.body, dict) else ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A Label Studio that takes the token: its version, the kind of the token, and its owner's e-mail."""

    version: str
    token: str
    user: str


class Client:
    """Asks one Label Studio with one token. Safe for threads; it connects at the first call.

    `url` does not end in a slash. `timeout` is in seconds, for each read and for the body of an answer.
    Calls that change nothing are repeated `retries` times when the connection or Label Studio fails (5xx,
    429, 408, 409). Redirects are errors: a POST would arrive as a GET.

    Every call raises LabelStudioError. Projects, models, webhooks and tasks are JSON objects as the API
    describes them, times as ISO texts.
    """

    def __init__(self, url: str, token: str, *, timeout: float, retries: int = 2) -> None:
        self.url = url
        self._token = token
        self._timeout = timeout
        self._retries = retries
        self._tokens = AccessTokens()
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._sdk: LabelStudio | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the next call would open new ones."""
        with self._lock:
            http, self._http, self._sdk = self._http, None, None
        if http is not None:
            http.close()

    def arrive(self) -> Arrival:
        """Reaches Label Studio and shows the token; each thing that can be wrong has its sentence."""
        version = self._version()
        try:
            user = self._ask(lambda sdk: sdk.users.whoami().email)
        except LabelStudioError as error:
            raise self._refused(error) if error.answered >= 400 else error from None
        return Arrival(version, kind_of(self._token), str(user))

    def projects(self) -> tuple[Iterator[Json], int]:
        """The projects that the token's owner sees, the newest first, and how many there are.

        They have only id, title, label_config and created_at, and come as they are iterated over.
        """
        fields = "id,title,label_config,created_at"
        pages: Any = self._ask(lambda sdk: sdk.projects.list(include=fields, page_size=_PAGE_SIZE))
        return self._each(pages), getattr(pages.response, "count", 0) or 0

    def has_project(self, key: ProjectKey) -> bool:
        """Whether the token's owner sees just this project there: ids repeat among several Label Studios."""
        try:
            found = self._ask(lambda sdk: _plain(sdk.projects.get(id=key.id)))
        except LabelStudioError as error:
            if error.answered in _NOT_SHOWN:
                return False
            raise
        return key_of(found) == key

    def models(self, project: int) -> list[Json]:
        """The ML backends of a project. Label Studio asks each of them for `/health` and `/setup` first."""
        return self._ask(lambda sdk: [_plain(model) for model in sdk.ml.list(project=project)])

    def webhooks(self, project: int) -> list[Json]:
        """The webhooks of a project."""
        return self._ask(lambda sdk: [_plain(hook) for hook in sdk.webhooks.list(project=str(project))])

    def first_task(self, project: int) -> Json | None:
        """The first task of a project without its annotations; None when it has no tasks."""
        tasks: Any = self._ask(lambda sdk: sdk.tasks.list(project=project, page_size=1, fields="task_only"))
        return next(self._each(tasks), None)

    def tasks_with_version(self, project: int, task_ids: Sequence[int], version: str) -> set[int]:
        """Those of the tasks that have a prediction of this model version."""
        found = set()
        for start in range(0, len(task_ids), _MOST_TASKS_ASKED_FOR):
            some = list(task_ids[start : start + _MOST_TASKS_ASKED_FOR])
            for task in self._tasks(project, some):
                predictions = [one for one in task.get("predictions") or () if isinstance(one, dict)]
                if any(prediction.get("model_version") == version for prediction in predictions):
                    found.add(int(task["id"]))
        return found

    def import_predictions(self, project: int, predictions: Sequence[Json]) -> None:
        """Stores predictions, each with `task`; never repeated. One unknown task fails the whole call."""
        body: Any = list(predictions)
        self._ask(
            lambda sdk: sdk.projects.import_predictions(
                id=project, request=body, request_options={"max_retries": 0}
            )
        )

    def refused_address(self, url: str) -> str | None:
        """Why Label Studio does not call a model at this address, if it refuses such addresses at all.

        It is asked to connect the model to a project that cannot exist: the address is checked before that,
        and nothing is stored.
        """
        try:
            self._ask(lambda sdk: sdk.ml.create(url=url, project=0, request_options={"max_retries": 0}))
        except LabelStudioError as error:
            if error.answered < 400:
                raise
            if "reserved network address" in error.detail:
                return (
                    f"Label Studio does not call local addresses ({error.detail}): start it with "
                    "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"
                )
            if "resolve hostname" in error.detail:
                return f"{error.detail}, says Label Studio: the address must be one that its machine knows"
        return None

    def _tasks(self, project: int, task_ids: list[int]) -> Iterator[Json]:
        query = json.dumps({"selectedItems": {"all": False, "included": task_ids}})
        pages: Any = self._ask(
            lambda sdk: sdk.tasks.list(project=project, fields="all", query=query, page_size=len(task_ids))
        )
        tasks = self._each(pages)
        for _ in task_ids:  # label-studio-sdk would ask for one page more
            task = next(tasks, None)
            if task is None:
                return
            yield task

    def _version(self) -> str:
        """Label Studio's version, for which no token is needed."""
        try:
            answer = self._connections().get(f"{self.url}/api/version", auth=_NO_TOKEN)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        if answer.is_redirect:
            raise self._answered(answer.status_code, answer.headers, None)
        try:
            return str(answer.json()["release"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._not_label_studio(f"status {answer.status_code} for /api/version") from None

    def _ask(self, call: Callable[["LabelStudio"], Given]) -> Given:
        """What label-studio-sdk gives. Its errors, and those of all that it stands on, become ours here."""
        problem = problem_of(self._token)
        if problem:
            raise LabelStudioError(problem)
        sdk = self._connected()
        from label_studio_sdk.core.api_error import ApiError

        try:
            return call(sdk)
        except LabelStudioError:
            raise
        except ApiError as error:
            raise self._answered(error.status_code or 0, error.headers or {}, error.body) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        except Exception as error:  # what the SDK makes of a strange answer is not to be told beforehand
            raise self._not_label_studio(type(error).__name__) from None

    def _each(self, pages: Any) -> Iterator[Json]:
        """The items of a list, page by page as they are wanted."""
        items = map(_plain, pages)
        while (item := self._ask(lambda _: next(items, None))) is not None:
            yield item

    def _connected(self) -> "LabelStudio":
        http = self._connections()
        with self._lock:
            if self._sdk is None:
                from label_studio_sdk.client import LabelStudio  # tens of megabytes, for those who use it

                # The connections show the token. Below a path the SDK needs the slash.
                self._sdk = LabelStudio(
                    base_url=f"{self.url}/", api_key="", httpx_client=http, max_retries=self._retries
                )
            return self._sdk

    def _connections(self) -> httpx.Client:
        with self._lock:
            if self._http is None:
                self._http = connections(self.url, self._header, self._timeout)
            return self._http

    def _header(self, refused: str) -> str:
        return self._tokens.header(self.url, self._token, self._exchange, refused=refused)

    def _exchange(self, address: str, body: Json) -> bytes:
        answer = self._connections().post(address, json=body, auth=_NO_TOKEN)
        if answer.status_code != 200:
            try:
                said = answer.json()
            except (ValueError, RecursionError):
                said = None
            raise self._answered(answer.status_code, answer.headers, said)
        return answer.content

    def _answered(self, status: int, headers: Mapping[str, str], body: Any) -> LabelStudioError:
        """The error for an answer that is not what was asked for."""
        _log.debug("Label Studio answers with status %d: %.500s", status, body)
        if 200 <= status < 300:
            return self._not_label_studio("no JSON")
        if 300 <= status < 400:
            target = urlsplit(httpx.Headers(headers).get("Location", ""))
            to = f" to {target.scheme}://{target.netloc.rpartition('@')[2]}" if target.netloc else ""
            reason = f"{self.url} redirects{to}: set LABEL_STUDIO_URL to the address where that ends"
            return LabelStudioError(reason, status)
        error = LabelStudioError(f"Label Studio answers with status {status}", status, body)
        return self._refused(error) if status == 401 else error

    def _refused(self, error: LabelStudioError) -> LabelStudioError:
        """What is wrong with the token, by what Label Studio says of it."""
        reason = (
            f"{self.url} refuses the token of LABEL_STUDIO_API_KEY (status {error.answered}): "
            f"{WHERE_TOKENS_ARE}"
        )
        for said, meaning in _REFUSALS.items():
            if error.answered == 401 and said in error.detail:
                reason = f"LABEL_STUDIO_API_KEY {meaning}"
        return LabelStudioError(reason, error.answered, error.body)

    def _not_label_studio(self, why: str) -> LabelStudioError:
        return LabelStudioError(
            f"what answers at {self.url} is not Label Studio ({why}): check LABEL_STUDIO_URL"
        )

    def _unreachable(self, error: Exception) -> LabelStudioError:
        return LabelStudioError(why_unreachable(self.url, self._timeout, error))


def client_of(settings: Settings, *, timeout: float, retries: int = 2) -> Client:
    """The client for LABEL_STUDIO_URL, which must be set, with LABEL_STUDIO_API_KEY."""
    key = settings.label_studio_api_key
    token = key.get_secret_value() if key else ""
    return Client(settings.label_studio_url or "", token, timeout=timeout, retries=retries)


def _plain(item: Any) -> Json:
    """What label-studio-sdk gives, as the JSON object that it was."""
    from label_studio_sdk.core.jsonable_encoder import jsonable_encoder

    return dict(jsonable_encoder(item))
