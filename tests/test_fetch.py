"""What a task must not reach: a real canary on loopback listens, and nothing may come."""

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from testkit.canary import FileServer, Page, redirect, running
from testkit.pictures import png
from testkit.stub_llm import StubLLM
from tests.conftest import Backend, MakeApp

IMAGE = (
    '<View><Image name="x" value="$x"/><TextArea name="prompt" toName="x"/>'
    '<TextArea name="r" toName="x"/></View>'
)
TEXT_AT = IMAGE.replace("<Image ", '<Text valueType="url" ')
HYPERTEXT_AT = IMAGE.replace("<Image ", '<HyperText valueType="url" ')
PARAGRAPHS_AT = IMAGE.replace("<Image ", '<Paragraphs valueType="url" ')
TEXT = IMAGE.replace("<Image ", "<Text ")
READING_ADDRESSES = [IMAGE, TEXT_AT, HYPERTEXT_AT, PARAGRAPHS_AT]

# Spellings of this machine and of a cloud's metadata service; {port} is the canary's.
INTERNAL = [
    "http://127.0.0.1:{port}/x.png",
    "http://localhost:{port}/x.png",
    "http://LOCALHOST.:{port}/x.png",
    "http://[::1]:{port}/x.png",
    "http://0.0.0.0:{port}/x.png",
    "http://0:{port}/x.png",
    "http://127.1:{port}/x.png",
    "http://127.0.0.2:{port}/x.png",
    "http://2130706433:{port}/x.png",
    "http://0x7f000001:{port}/x.png",
    "http://0x7f.0.0.1:{port}/x.png",
    "http://0177.0.0.1:{port}/x.png",
    "http://[::ffff:127.0.0.1]:{port}/x.png",
    "http://[::ffff:7f00:1]:{port}/x.png",
    "http://[0:0:0:0:0:ffff:7f00:0001]:{port}/x.png",
    "http://[::127.0.0.1]:{port}/x.png",
    "http://[64:ff9b::7f00:1]:{port}/x.png",
    "http://[fe80::1%25lo]:{port}/x.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "HTTP://127.0.0.1:{port}/x.png",
    "http://user:password@127.0.0.1:{port}/x.png",
    "http://example.com@127.0.0.1:{port}/x.png",
    "http://127.0.0.1:{port}\\@example.com/x.png",
    "http://example.com\\@127.0.0.1:{port}/x.png",
    "http://127.0.0.1:{port}#@example.com/x.png",
    "http://127.0.0.1:{port}?@example.com/x.png",
    "http:///127.0.0.1:{port}/x.png",
    "http:\\\\127.0.0.1:{port}\\x.png",
    "http://\uff11\uff12\uff17.0.0.1:{port}/x.png",
    "http://127\u30020\u30020\u30021:{port}/x.png",
    "http://127.0.0.1:{port}/\r\nX: y",
    " http://127.0.0.1:{port}/x.png",
    "//127.0.0.1:{port}/x.png",
    "https://127.0.0.1:{port}/x.png",
    "ftp://127.0.0.1:{port}/x.png",
    "gopher://127.0.0.1:{port}/x.png",
]
ON_THE_DISK = ["/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd",
               "../../etc/passwd", "README.md", "./README.md", "~/.ssh/id_rsa", "/proc/self/environ",
               "/data/../etc/passwd", "/dev/zero", "examples/document-images/fuel.png"]  # fmt: skip


@pytest.fixture
def canary() -> Iterator[FileServer]:
    """A server on all of this machine's loopback addresses, IPv6 included where there is any."""
    with running() as server:
        try:
            with running("::1", server.port) as six:
                six.asked = server.asked
                yield server
                server.connections += six.connections
        except OSError:
            yield server


def ask(backend: Backend, config: str, value: Any) -> Any:
    """An interactive request for a task that names `value`."""
    return backend.predict([{"id": 1, "data": {"x": value}}], prompt="Read", config=config)


def interactive(value: Any) -> dict[str, Any]:
    """The body of such a request, without a project."""
    region = {"from_name": "prompt", "value": {"text": ["Read"]}}
    tasks = [{"id": 1, "data": {"x": value}}]
    return {"tasks": tasks, "label_config": IMAGE, "params": {"context": {"result": [region]}}}


def names(monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> dict[str, int]:
    """Makes names resolve, for each time they are asked for, to the next address; counts how often."""
    real = socket.getaddrinfo
    counted = dict.fromkeys(answers, 0)

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = str(host).rstrip(".").replace(".", "_")
        if name in answers:
            addresses = answers[name]
            address = addresses[min(counted[name], len(addresses) - 1)]
            counted[name] += 1
            return real(address, port, *args, **kwargs)
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return counted


@pytest.mark.parametrize("config", READING_ADDRESSES, ids=["Image", "Text", "HyperText", "Paragraphs"])
@pytest.mark.parametrize("address", INTERNAL)
def test_no_internal_address_is_reached(
    make_backend: MakeApp, stub: StubLLM, canary: FileServer, config: str, address: str
) -> None:
    """In no spelling, by no tag: the task fails with a sentence, and nothing so much as connects."""
    answer = ask(make_backend(FETCH_TIMEOUT="2"), config, address.format(port=canary.port))
    assert answer.status_code == 422, answer.text
    assert answer.json["error"]["code"] in ("task_data", "address_refused")
    assert "secret" not in answer.text
    assert (canary.connections, canary.asked, stub.calls) == (0, [], [])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("config", READING_ADDRESSES, ids=["Image", "Text", "HyperText", "Paragraphs"])
def test_no_redirect_leads_to_an_internal_address(
    make_backend: MakeApp, stub: StubLLM, canary: FileServer, config: str, status: int
) -> None:
    """Each redirect is checked again, and the error does not tell where it led."""
    with running() as allowed:
        backend = make_backend(ALLOWED_HOSTS=f"127.0.0.1:{allowed.port}")
        for target in INTERNAL[:12]:
            where = target.format(port=canary.port)
            allowed.says(redirect(where, status))
            answer = ask(backend, config, f"{allowed.url}/{status}")
            assert answer.status_code == 422
            assert "redirect" in answer.json["error"]["reason"]
            assert str(canary.port) not in answer.text
    assert (canary.connections, canary.asked, stub.calls) == (0, [], [])


def test_no_name_leads_to_an_internal_address(
    make_backend: MakeApp, canary: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is what a name resolves to."""
    names(monkeypatch, evil_example=["127.0.0.1"])
    answer = ask(make_backend(), IMAGE, f"http://evil.example:{canary.port}/x.png")
    assert answer.json["error"]["code"] == "address_refused"
    assert canary.connections == 0


def test_a_name_that_changes_its_answer_is_resolved_once(
    make_backend: MakeApp, canary: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is made to the address that was checked, not to what the name says the next time."""
    connected: list[Any] = []

    def refuse(_: socket.socket, to: Any) -> None:
        connected.append(to)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    counted = names(monkeypatch, evil_example=["93.184.216.34", "127.0.0.1"])
    answer = ask(make_backend(), IMAGE, f"http://evil.example:{canary.port}/x.png")
    assert answer.status_code == 422
    assert connected == [("93.184.216.34", canary.port)]
    assert (counted["evil_example"], canary.connections) == (1, 0)


def test_a_connection_that_may_be_made_is_not_lent_to_other_tasks(
    make_backend: MakeApp, canary: FileServer
) -> None:
    """A kept connection to one project's Label Studio serves no task of another project."""
    auth = {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}
    backend = make_backend(BASIC_AUTH_USER="u", BASIC_AUTH_PASS="p")
    canary.says(Page(png()))
    setup = {"project": "1.1", "schema": IMAGE, "hostname": canary.url, "access_token": "t" * 40}
    assert backend.client.post("/setup", json=setup, headers=auth).status_code == 200
    body = interactive(f"{canary.url}/data/upload/1/a.png")
    assert backend.client.post("/predict", json=body | {"project": "1.1"}, headers=auth).status_code == 200
    reached = len(canary.asked)
    assert backend.client.post("/predict", json=body | {"project": "2.2"}, headers=auth).status_code == 422
    assert len(canary.asked) == reached


@pytest.mark.parametrize("value", [*ON_THE_DISK, "http://127.0.0.1/x", "data:text/plain,x", "s3://b/k"])
def test_a_text_stays_the_text_it_is(backend: Backend, stub: StubLLM, value: str) -> None:
    """Paths and addresses in a Text arrive at the model as they are."""
    assert ask(backend, TEXT, value).status_code == 200
    assert stub.prompts == [f"Source Text: {value}\n\nTask Directive: Read"]


@pytest.mark.parametrize("config", READING_ADDRESSES, ids=["Image", "Text", "HyperText", "Paragraphs"])
@pytest.mark.parametrize("value", ON_THE_DISK)
def test_no_file_of_this_server_is_opened(backend: Backend, stub: StubLLM, config: str, value: str) -> None:
    """Where an address is needed, a path is an error of that task."""
    answer = ask(backend, config, value)
    assert answer.status_code == 422
    assert "root:" not in answer.text
    assert not stub.calls


@pytest.mark.parametrize("value", ON_THE_DISK)
def test_other_fields_with_paths_are_plain_text_too(make_backend: MakeApp, stub: StubLLM, value: str) -> None:
    """A placeholder in a template never opens anything."""
    backend = make_backend(USE_INTERNAL_PROMPT_TEMPLATE="0")
    task = {"id": 1, "data": {"x": "t", "path": value}}
    assert backend.predict([task], prompt="{path}|{text}", config=TEXT).status_code == 200
    assert stub.prompts == [f"{value}|t"]


def test_the_environments_token_goes_to_no_origin_that_setup_named(
    make_backend: MakeApp, canary: FileServer
) -> None:
    """With Basic auth `/setup` may name a Label Studio, which gets the token that it brought."""
    auth = {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}
    backend = make_backend(BASIC_AUTH_USER="u", BASIC_AUTH_PASS="p", LABEL_STUDIO_API_KEY="environment")
    canary.says(Page(png()))
    setup = {"project": "1.1", "schema": IMAGE, "hostname": canary.url, "access_token": "of-setup"}
    assert backend.client.post("/setup", json=setup, headers=auth).status_code == 200
    body = interactive("/data/upload/1/a.png") | {"project": "1.1"}
    assert backend.client.post("/predict", json=body, headers=auth).status_code == 200
    assert [asked.headers["authorization"] for asked in canary.asked] == ["Token of-setup"]


def test_without_basic_auth_setup_names_no_label_studio(make_backend: MakeApp, canary: FileServer) -> None:
    """Anybody can send a `/setup`; what it says of Label Studio is neither used nor kept."""
    backend = make_backend(LABEL_STUDIO_API_KEY="environment")
    setup = {"project": "7.1795440473", "schema": IMAGE, "hostname": canary.url, "access_token": "t"}
    assert backend.client.post("/setup", json=setup).status_code == 200
    for value in ("/data/upload/1/a.png", f"{canary.url}/data/upload/1/a.png"):
        assert ask(backend, IMAGE, value).status_code == 422
    assert canary.connections == 0
    assert backend.services.projects.get("7.1795440473").label_studio_token is None


@pytest.mark.parametrize("where", ["other port", "other host"])
def test_credentials_do_not_follow_a_redirect_to_another_origin(
    make_backend: MakeApp, canary: FileServer, where: str
) -> None:
    """A redirect from Label Studio to storage elsewhere goes without the token, and so does one back."""
    with running() as label_studio:
        host = "127.0.0.1" if where == "other port" else "localhost"
        there = f"http://{host}:{canary.port}/stored.png"
        back = f"{label_studio.url}/data/upload/1/b.png"
        label_studio.answer = lambda asked: redirect(there) if asked.path.endswith("a.png") else Page(png())
        canary.says(redirect(back))
        backend = make_backend(
            LABEL_STUDIO_URL=label_studio.url, LABEL_STUDIO_API_KEY="token", ALLOWED_HOSTS=host
        )
        assert ask(backend, IMAGE, "/data/upload/1/a.png").status_code == 200
    assert "authorization" not in canary.asked[0].headers
    first, second = label_studio.asked
    assert first.headers["authorization"] == "Token token"
    assert "authorization" not in second.headers


@pytest.mark.parametrize(
    "path",
    ["/api/current-user/token", "/api/projects/1/export", "/user/account", "/data/upload/../../api/token",
     "/data/upload/%2e%2e/%2e%2e/api/token", "/data/upload/..%2f..%2fapi/token", "/dataupload/x", "/"],
)  # fmt: skip
def test_the_token_opens_nothing_but_files(make_backend: MakeApp, canary: FileServer, path: str) -> None:
    """Else a task could have the model read whatever the token's owner may see in Label Studio."""
    backend = make_backend(LABEL_STUDIO_URL=canary.url, LABEL_STUDIO_API_KEY="token")
    ask(backend, TEXT_AT, canary.url + path)
    ask(backend, TEXT_AT, path)
    assert all("authorization" not in asked.headers for asked in canary.asked)


def test_an_error_never_quotes_what_was_answered(
    make_backend: MakeApp, canary: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the body, nor a header, nor the reason phrase of an answer, in the error or the log."""
    caplog.set_level("DEBUG", "llm_backend")
    backend = make_backend(ALLOWED_HOSTS="127.0.0.1")
    pages = [
        Page(b"secret", "secret/secret", 500),
        Page(b"secret", "image/secret", 200),
        Page(b"secret", "text/html; secret", 200),
        Page(b"secret", "image/png", 404, {"X-Secret": "secret"}),
        Page(b"secret", "image/png", 200, {"Content-Encoding": "secret"}),
        Page(b"secret", "image/png", 302, {"Location": "secret://secret"}),
        Page(b"secret", "image/png", 302, {"Location": "http://secret.invalid/"}),
        Page(raw=lambda out: out.write(b"HTTP/1.1 secret secret\r\n\r\nsecret")),
        Page(raw=lambda out: out.write(b"secret\r\n\r\n")),
        Page(raw=lambda out: out.write(b"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n")),
    ]
    for number, page in enumerate(pages):
        canary.says(page)
        answer = ask(backend, IMAGE, f"{canary.url}/{number}")
        assert answer.status_code == 422
        assert "secret" not in answer.text.lower()
        assert "secret" not in answer.status.lower()
    assert "secret" not in caplog.text.lower()


def drip(head: bytes, chunk: bytes) -> Callable[[Any], None]:
    """Sends the head, then the chunk again and again, slowly enough for every single read to be in time."""

    def send(out: Any) -> None:
        out.write(head)
        for _ in range(200):
            out.write(chunk)
            out.flush()
            time.sleep(0.05)

    return send


@pytest.mark.parametrize(
    "raw",
    [
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", b"x"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n", b"x"),
        lambda out: time.sleep(5),
    ],
    ids=["status line", "headers", "body", "chunks", "one chunk", "silence"],
)  # fmt: skip
def test_a_slow_answer_ends_in_time(make_backend: MakeApp, canary: FileServer, raw: Any) -> None:
    """FETCH_TIMEOUT is for the whole file, however busily its server trickles."""
    canary.says(Page(raw=raw))
    started = time.monotonic()
    answer = ask(make_backend(ALLOWED_HOSTS="127.0.0.1", FETCH_TIMEOUT="0.5"), IMAGE, canary.url + "/slow")
    assert time.monotonic() - started < 2
    assert answer.status_code == 422
    assert "FETCH_TIMEOUT" in answer.status


def test_a_slow_handshake_ends_in_time(make_backend: MakeApp) -> None:
    """TLS too: a server that sends its hello byte by byte is cut off."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")
                for _ in range(100):
                    connection.sendall(b"x")
                    time.sleep(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        started = time.monotonic()
        address = f"https://127.0.0.1:{listening.getsockname()[1]}/x.png"
        answer = ask(make_backend(ALLOWED_HOSTS="127.0.0.1", FETCH_TIMEOUT="0.5"), IMAGE, address)
        assert time.monotonic() - started < 2
        thread.join()
    assert "FETCH_TIMEOUT" in answer.status


def endless(out: Any) -> None:
    """A stream without an end."""
    out.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    for _ in range(100_000):
        out.write(b"x" * 65536)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (Page(raw=endless), "FETCH_MAX_BYTES"),
        (Page(b"x" * 200_001), "FETCH_MAX_BYTES"),
        (Page(b"", headers={"Content-Length": "99999999999999"}), "FETCH_MAX_BYTES"),
        (Page(b"x" * 50, headers={"Content-Length": "100"}), "broke off|in time"),
        (Page(png(), "text/html"), "content type"),
        (Page(png(), "image/png", headers={"Content-Encoding": "gzip"}), "compressed"),
        (Page(b"<svg/>", "image/svg+xml"), "kind that cannot be read"),
        (Page(b"", "image/png"), "kind that cannot be read"),
        (Page(png()[:-30], "image/png"), "broken"),
        (Page(status=204), "204"),
        (Page(status=304), "304"),
    ],
)
def test_what_is_not_within_limits_is_an_error_of_the_task(
    make_backend: MakeApp, canary: FileServer, page: Page, says: str
) -> None:
    """With a sentence that a person can use."""
    canary.says(page)
    backend = make_backend(ALLOWED_HOSTS="127.0.0.1", FETCH_MAX_BYTES="200000", FETCH_TIMEOUT="2")
    answer = ask(backend, IMAGE, canary.url + "/x.png")
    assert answer.status_code == 422
    assert any(part in answer.json["error"]["reason"] for part in says.split("|")), answer.json


def test_redirects_are_limited(make_backend: MakeApp, canary: FileServer) -> None:
    """A circle of redirects ends."""
    canary.says(redirect("/again"))
    answer = ask(make_backend(ALLOWED_HOSTS="127.0.0.1"), IMAGE, canary.url + "/x.png")
    assert "redirects more than 5 times" in answer.status
    assert len(canary.asked) == 6


def test_a_proxy_of_the_environment_is_not_used(
    make_backend: MakeApp, canary: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would connect to what we cannot check."""
    monkeypatch.setenv("HTTP_PROXY", canary.url)
    monkeypatch.setenv("http_proxy", canary.url)
    names(monkeypatch, public_example=["127.0.0.1"])
    assert ask(make_backend(), IMAGE, "http://public.example/x.png").status_code == 422
    assert canary.connections == 0


def test_cookies_and_netrc_are_not_used(
    make_backend: MakeApp, canary: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task's server learns nothing of another's, nor of this machine's passwords."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    canary.says(Page(png(), headers={"Set-Cookie": "a=b"}))
    backend = make_backend(ALLOWED_HOSTS="127.0.0.1")
    for path in ("/1.png", "/2.png"):
        assert ask(backend, IMAGE, canary.url + path).status_code == 200
    assert all(not {"cookie", "authorization"} & asked.headers.keys() for asked in canary.asked)
