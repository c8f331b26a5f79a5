"""The door to Label Studio: what it gives, what it shows to whom, and what it makes of strange answers."""

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.label_studio import connections
from llm_backend.label_studio.client import Client, LabelStudioError
from llm_backend.label_studio.project_key import ProjectKey
from llm_backend.settings import PROJECT_ROOT
from testkit.canary import FileServer, Page, redirect, running
from testkit.stub_label_studio import LEGACY_TOKEN, PERSONAL_TOKEN, StubLabelStudio, running_label_studio
from tests.conftest import CLASSIFICATION

FIRST = ProjectKey(1, 1795542053)  # the first project of the stand-in
NOBODY = "http://127.0.0.1:1"
REFRESH = ("POST", "/api/token/refresh")
MakeClient = Callable[..., Client]


@pytest.fixture
def label_studio() -> Iterator[StubLabelStudio]:
    """A Label Studio with one project."""
    with running_label_studio() as running_stub:
        running_stub.add(CLASSIFICATION, NOBODY)
        yield running_stub


@pytest.fixture
def canary() -> Iterator[FileServer]:
    """A server that answers what a test says, and remembers what it was shown."""
    with running() as server:
        yield server


@pytest.fixture
def client() -> Iterator[MakeClient]:
    """Makes clients that fail soon, and closes them."""
    with ExitStack() as opened:

        def make(url: str, token: str = LEGACY_TOKEN, *, timeout: float = 5, retries: int = 0) -> Client:
            return opened.enter_context(Client(url, token, timeout=timeout, retries=retries))

        yield make


CALLS: dict[str, Callable[[Client], Any]] = {
    "arrive": Client.arrive,
    "projects": lambda door: list(door.projects()[0]),
    "has_project": lambda door: door.has_project(FIRST),
    "models": lambda door: door.models(1),
    "webhooks": lambda door: door.webhooks(1),
    "first_task": lambda door: door.first_task(1),
    "tasks_with_version": lambda door: door.tasks_with_version(1, [10], "v"),
    "import_predictions": lambda door: door.import_predictions(1, [{"task": 10, "result": []}]),
    "refused_address": lambda door: door.refused_address(NOBODY),
}


def test_the_sdk_is_imported_at_the_first_call() -> None:
    """A server that delivers nothing does without its tens of megabytes."""
    code = (
        "import sys, llm_backend.services\n"
        "from llm_backend.label_studio.client import Client\n"
        "Client('http://x', 'y', timeout=1)\n"
        "sys.exit('label_studio_sdk.client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False).returncode == 0


@pytest.mark.parametrize("token", [LEGACY_TOKEN, PERSONAL_TOKEN])
@pytest.mark.parametrize("below", ["", "/labels"])
def test_plain_values_come_back(
    client: MakeClient, label_studio: StubLabelStudio, token: str, below: str
) -> None:
    """JSON with times as texts, with tokens of both kinds, also where Label Studio is below a path."""
    label_studio.url += below
    door = client(label_studio.url, token)
    assert (door.arrive().version, door.arrive().user) == ("1.23.2", "admin@example.com")
    projects, total = door.projects()
    [project] = projects
    assert (total, project["id"], project["label_config"]) == (1, 1, CLASSIFICATION)
    assert project["created_at"] == "2026-11-24T17:40:53.990775Z"
    assert door.models(1)[0]["is_interactive"] is True
    assert door.webhooks(1)[0]["url"] == f"{NOBODY}/webhook"
    assert (door.first_task(1) or {})["data"] == {"text": "a"}
    json.dumps([project, door.models(1), door.webhooks(1), door.first_task(1)])


def test_a_project_is_known_by_its_whole_key(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """Another Label Studio may have another project of that id; one that is not shown is not there."""
    door = client(label_studio.url)
    assert door.has_project(FIRST)
    assert not door.has_project(ProjectKey(1, FIRST.created + 1))
    assert not door.has_project(ProjectKey(2, FIRST.created))
    label_studio.failures["/api/projects/1"] = 403
    assert not door.has_project(FIRST)
    label_studio.failures["/api/projects/1"] = 500
    with pytest.raises(LabelStudioError, match="answers with status 500"):
        door.has_project(FIRST)


def test_a_project_without_tasks_has_no_first_one(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """None says so."""
    label_studio.tasks[1] = []
    assert client(label_studio.url).first_task(1) is None


def test_tasks_are_asked_for_their_predictions(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """Only those with this version are given, however many are asked for, with a request for each 200."""
    label_studio.tasks[1] = [{"id": number, "data": {"text": "a"}, "project": 1} for number in range(1, 451)]
    label_studio.predictions = [
        {"task": number, "model_version": "v" if number % 2 else "w"} for number in range(1, 451)
    ]
    door = client(label_studio.url)
    assert door.tasks_with_version(1, range(1, 451), "v") == set(range(1, 451, 2))
    assert label_studio.asked.count(("GET", "/api/tasks")) == 3
    assert door.tasks_with_version(1, [2, 3, 900], "v") == {3}
    assert door.tasks_with_version(1, [], "v") == set()


def test_predictions_are_stored_all_or_none(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """One unknown task fails the call; what Label Studio says of it stays out of the sentence."""
    door = client(label_studio.url)
    door.import_predictions(1, [{"task": 10, "result": [], "score": 0.5}])
    with pytest.raises(LabelStudioError) as refused:
        door.import_predictions(1, [{"task": 10}, {"task": 11}])
    assert [prediction["score"] for prediction in label_studio.predictions] == [0.5]
    assert (refused.value.answered, refused.value.detail) == (400, "Validation error")
    assert "Validation" not in refused.value.logged


def test_only_what_changes_nothing_is_repeated(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """A prediction that was stored before the connection failed would be stored twice."""
    imports = "/api/projects/1/import/predictions"
    label_studio.failures = {"/api/webhooks": 502, imports: 502}
    door = client(label_studio.url, retries=1)
    for call in (CALLS["webhooks"], CALLS["import_predictions"]):
        with pytest.raises(LabelStudioError, match="answers with status 502"):
            call(door)
    assert [label_studio.asked.count(asked) for asked in (("GET", "/api/webhooks"), ("POST", imports))] == [
        2,
        1,
    ]


def test_an_access_token_is_kept(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """As long as it lasts."""
    door = client(label_studio.url, PERSONAL_TOKEN)
    for _ in range(3):
        door.models(1)
    assert label_studio.asked.count(REFRESH) == 1


def test_an_access_token_is_renewed_before_it_expires(
    client: MakeClient, label_studio: StubLabelStudio
) -> None:
    """One with a few seconds left could expire on the way."""
    label_studio.lifetime = 20
    door = client(label_studio.url, PERSONAL_TOKEN)
    for _ in range(3):
        door.models(1)
    assert label_studio.asked.count(REFRESH) == 3
    assert label_studio.asked.count(("GET", "/api/ml")) == 3


def test_a_refused_access_token_is_renewed_once(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """Then the answer counts."""
    door = client(label_studio.url, PERSONAL_TOKEN)
    door.models(1)
    label_studio.given.append("the key that signs tokens is another now")
    assert door.models(1)
    label_studio.failures["/api/ml"] = 401
    with pytest.raises(LabelStudioError, match="refuses the token"):
        door.models(1)
    assert label_studio.asked.count(REFRESH) == 3


def test_a_refused_legacy_token_is_not_shown_again(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """It would be the same one."""
    with pytest.raises(LabelStudioError, match="that no user of this Label Studio has"):
        client(label_studio.url, "0" * 40).models(1)
    assert label_studio.asked.count(("GET", "/api/ml")) == 1


@pytest.mark.parametrize("token", [LEGACY_TOKEN, PERSONAL_TOKEN])
@pytest.mark.parametrize("name", CALLS)
def test_no_redirect_is_followed(client: MakeClient, canary: FileServer, name: str, token: str) -> None:
    """The error names the host to set; the other host is shown nothing."""
    with running() as other:
        canary.says(redirect(f"{other.url}/api/?signature=x", 307))
        with pytest.raises(LabelStudioError) as error:
            CALLS[name](client(canary.url, token))
        assert other.asked == []
    assert error.value.reason == (
        f"{canary.url} redirects to {other.url}: set LABEL_STUDIO_URL to the address where that ends"
    )


def test_the_token_is_for_its_own_host(canary: FileServer) -> None:
    """Whatever address these connections are made to use."""
    with running() as other, connections.connections(canary.url, lambda _: "Token secret", 5) as http:
        assert http.get(f"{canary.url}/a").status_code == 200
        http.get(f"{other.url}/b", headers={"Authorization": "Token secret"})
        assert [asked.headers.get("authorization") for asked in canary.asked + other.asked] == [
            "Token secret",
            None,
        ]


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_that_is_too_long_is_given_up(
    client: MakeClient, canary: FileServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it fills the memory."""
    monkeypatch.setattr(connections, "MOST_ANSWER_BYTES", 1000)
    canary.says(Page(b'"' + b"x" * 2000 + b'"', "application/json"))
    with pytest.raises(LabelStudioError, match="more than 1000 bytes"):
        CALLS[name](client(canary.url))


def test_an_answer_that_drips_is_given_up(client: MakeClient, canary: FileServer) -> None:
    """A timeout of a socket is one for each read, which a byte now and then meets."""

    def drip(out: Any) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n")
        for _ in range(500):
            out.write(b"[")
            out.flush()
            time.sleep(0.05)

    canary.says(Page(raw=drip))
    started = time.monotonic()
    with pytest.raises(LabelStudioError, match="does not answer within"):
        client(canary.url, timeout=0.5).models(1)
    assert time.monotonic() - started < 5


def test_a_compressed_answer_is_refused(client: MakeClient, canary: FileServer) -> None:
    """A few bytes could become very many."""
    packed = gzip.compress(b"[]")
    canary.says(Page(packed, "application/json", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(LabelStudioError, match="a compressed answer"):
        client(canary.url).models(1)
    assert canary.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("name", CALLS)
def test_nobody_is_there(client: MakeClient, name: str) -> None:
    """The sentence says what to do."""
    with pytest.raises(LabelStudioError, match=f"{NOBODY} refuses the connection: start Label Studio"):
        CALLS[name](client(NOBODY))


@pytest.mark.parametrize("name", CALLS)
def test_a_token_that_cannot_work_is_not_sent(client: MakeClient, canary: FileServer, name: str) -> None:
    """Label Studio need not be asked for what the token tells itself."""
    canary.says(Page(b'{"release": "1.23.2"}', "application/json"))
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY is cut off"):
        CALLS[name](client(canary.url, PERSONAL_TOKEN.rpartition(".")[0]))
    assert [asked.path for asked in canary.asked] == ["/api/version"] * (name == "arrive")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "results", "tasks", "count", "created_at", "email", "access"]), inner
        )
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def anything() -> Iterator[tuple[FileServer, tuple[Client, Client]]]:
    """A server for many answers, with a client for each kind of token."""
    with (
        running() as server,
        Client(server.url, LEGACY_TOKEN, timeout=5, retries=0) as legacy,
        Client(server.url, PERSONAL_TOKEN, timeout=5, retries=0) as personal,
    ):
        yield server, (legacy, personal)


@pytest.mark.parametrize("kind", [0, 1], ids=["legacy", "personal"])
@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(CALLS)),
    status=st.sampled_from([200, 200, 200, 201, 204, 400, 401, 404, 500]),
    body=JSON | st.binary(max_size=9),
)
def test_any_answer_is_a_value_or_our_error(
    anything: tuple[FileServer, tuple[Client, Client]], kind: int, name: str, status: int, body: Any
) -> None:
    """Nothing that something else on that port answers becomes an error of a library."""
    server, clients = anything
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    server.says(Page(b"" if status == 204 else content, "application/json", status))
    with suppress(LabelStudioError):
        CALLS[name](clients[kind])


def test_a_closed_client_opens_again(client: MakeClient, label_studio: StubLabelStudio) -> None:
    """Closing ends connections, not the client."""
    door = client(label_studio.url)
    door.close()
    assert door.models(1)
    door.close()
    assert door.models(1)
    door.close()
