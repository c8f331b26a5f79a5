"""Files that tasks name, over HTTP against a stand-in for Label Studio on loopback, and the stub LLM."""

import base64
import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from testkit.canary import Asked, FileServer, Page, redirect, running
from testkit.pictures import encoded, png, written
from testkit.stub_llm import Answer, Call, StubLLM, completion, failure
from tests.conftest import Backend, MakeApp
from tests.test_fetch import HYPERTEXT_AT, IMAGE, PARAGRAPHS_AT, TEXT_AT, ask

needs_tesseract = pytest.mark.skipif(not shutil.which("tesseract"), reason="tesseract is not installed")
IMAGES = IMAGE.replace("value=", "valueList=")
PICTURE = png((40, 20))
RECEIPT = encoded(written("GREEN GROCER\nTOTAL 12.34"), "PNG")
REFUSES = failure(400, "Invalid content type. image_url is only supported by certain models.")


def jwt(**claims: Any) -> str:
    """A token of that form; its signature is not looked at."""
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)
    )
    return ".".join([*parts, "signature"])


PERSONAL = jwt(token_type="refresh")


@pytest.fixture
def label_studio() -> Iterator[FileServer]:
    """Answers every path with a picture."""
    with running() as server:
        server.says(Page(PICTURE))
        yield server


def sent_pictures(stub: StubLLM) -> list[bytes]:
    """The pictures of the last request."""
    content = stub.calls[-1].body["messages"][-1]["content"]
    assert isinstance(content, list)
    return [
        base64.b64decode(p["image_url"]["url"].partition(",")[2]) for p in content if p["type"] == "image_url"
    ]


def personal_tokens(label_studio: FileServer, lifetimes: list[int]) -> list[str]:
    """Makes the stand-in give access tokens of these lifetimes in seconds, and take only the newest."""
    given: list[str] = []

    def answer(asked: Asked) -> Page:
        if asked.path.endswith("/api/token/refresh/"):
            if asked.method != "POST" or json.loads(asked.body) != {"refresh": PERSONAL}:
                return Page(status=401)
            given.append(jwt(exp=int(time.time()) + lifetimes[len(given)], number=len(given)))
            return Page(json.dumps({"access": given[-1]}).encode(), "application/json")
        right = given and asked.headers.get("authorization") == f"Bearer {given[-1]}"
        return Page(PICTURE) if right else Page(status=401)

    label_studio.answer = answer
    return given


def resolved(address: str) -> str:
    """Label Studio's address for a file in cloud storage."""
    return f"/projects/7/resolve/?fileuri={base64.urlsafe_b64encode(address.encode()).decode()}"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/data/upload/7/a%20b.png", "/data/upload/7/a%20b.png"),
        ("/data/local-files/?d=folder/a.png", "/data/local-files/?d=folder/a.png"),
        ("/storage-data/uploaded/?filepath=u/1/a.png", "/storage-data/uploaded/?filepath=u/1/a.png"),
        ("/tasks/5/resolve/?fileuri=czM6Ly9iL2s=", "/tasks/5/resolve/?fileuri=czM6Ly9iL2s="),
        ("s3://bucket/k y.png", resolved("s3://bucket/k y.png")),
        ("gs://b/k", resolved("gs://b/k")),
        ("azure-blob://c/b", resolved("azure-blob://c/b")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("below", ["", "/label-studio"])
def test_label_studios_files_are_fetched_with_its_token(
    make_backend: MakeApp, stub: StubLLM, label_studio: FileServer, value: str, path: str, below: str
) -> None:
    """Uploads, local files and cloud storage, also where Label Studio is served below a path."""
    backend = make_backend(LABEL_STUDIO_URL=label_studio.url + below, LABEL_STUDIO_API_KEY="legacy")
    assert ask(backend, IMAGE, value).status_code == 200
    [asked] = label_studio.asked
    assert (asked.path, asked.headers["authorization"]) == (below + path, "Token legacy")
    assert len(sent_pictures(stub)) == 1


@pytest.mark.parametrize(
    "value", ["/label-studio/data/upload/1/a.png", "{url}/label-studio/data/upload/1/a.png"]
)
def test_a_path_that_holds_label_studios_own_is_not_doubled(
    make_backend: MakeApp, label_studio: FileServer, value: str
) -> None:
    """Label Studio writes its uploads' addresses with the path it is served under."""
    backend = make_backend(LABEL_STUDIO_URL=f"{label_studio.url}/label-studio/", LABEL_STUDIO_API_KEY="t")
    assert ask(backend, IMAGE, value.format(url=label_studio.url)).status_code == 200
    [asked] = label_studio.asked
    assert (asked.path, asked.headers["authorization"]) == ("/label-studio/data/upload/1/a.png", "Token t")


def test_cloud_storage_may_redirect_to_a_signed_address(
    make_backend: MakeApp, label_studio: FileServer, stub: StubLLM
) -> None:
    """Label Studio's resolve address answers 303; what is stored elsewhere is fetched without its token."""
    with running() as storage:
        storage.says(Page(PICTURE))
        label_studio.says(redirect(f"{storage.url}/k.png?X-Amz-Signature=s", 303))
        backend = make_backend(
            LABEL_STUDIO_URL=label_studio.url,
            LABEL_STUDIO_API_KEY="t",
            ALLOWED_HOSTS=f"127.0.0.1:{storage.port}",
        )
        assert ask(backend, IMAGE, "s3://b/k.png").status_code == 200
        [asked] = storage.asked
    assert asked.path == "/k.png?X-Amz-Signature=s"
    assert "authorization" not in asked.headers
    assert len(sent_pictures(stub)) == 1


def test_a_personal_access_token_is_exchanged_once(make_backend: MakeApp, label_studio: FileServer) -> None:
    """The access token is kept for as long as it lasts."""
    given = personal_tokens(label_studio, [300])
    backend = make_backend(LABEL_STUDIO_URL=label_studio.url, LABEL_STUDIO_API_KEY=PERSONAL)
    for number in range(3):
        assert ask(backend, IMAGE, f"/data/upload/1/{number}.png").status_code == 200
    assert len(given) == 1
    assert all(PERSONAL not in str(asked.headers) for asked in label_studio.asked)


def test_an_expired_access_token_is_replaced(make_backend: MakeApp, label_studio: FileServer) -> None:
    """Both one that says so, and one that Label Studio no longer takes."""
    given = personal_tokens(label_studio, [1, 300, 300, 300])
    backend = make_backend(LABEL_STUDIO_URL=label_studio.url, LABEL_STUDIO_API_KEY=PERSONAL)
    assert ask(backend, IMAGE, "/data/upload/1/1.png").status_code == 200
    assert ask(backend, IMAGE, "/data/upload/1/2.png").status_code == 200
    assert len(given) == 2
    given.append("another one, as if a person had revoked the one before")
    assert ask(backend, IMAGE, "/data/upload/1/3.png").status_code == 200
    assert len(given) == 4


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (PERSONAL, "refused the personal access token"),
        ("legacy", "refused the legacy token"),
        ("", "wants a token"),
    ],
)
def test_a_401_says_which_token_to_make_and_where(
    make_backend: MakeApp, label_studio: FileServer, token: str, says: str
) -> None:
    """Legacy tokens are off by default now, so that a personal access token is what helps."""
    label_studio.says(Page(b"secret", status=401))
    backend = make_backend(LABEL_STUDIO_URL=label_studio.url, LABEL_STUDIO_API_KEY=token)
    answer = ask(backend, IMAGE, "/data/upload/1/a.png")
    assert answer.status_code == 422
    reason = answer.json["error"]["reason"]
    assert says in reason
    assert "personal access token" in reason
    assert "Account & Settings" in reason
    assert "LABEL_STUDIO_API_KEY" in reason
    assert len(answer.status) < 206


def test_without_label_studio_its_files_say_what_to_set(backend: Backend) -> None:
    """Nothing is guessed."""
    answer = ask(backend, IMAGE, "/data/upload/1/a.png")
    assert "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY" in answer.status


def test_pictures_inside_the_task_are_read(backend: Backend, stub: StubLLM) -> None:
    """As a data URL, or as bare base64."""
    for value in (
        "data:image/png;base64," + base64.b64encode(RECEIPT).decode(),
        base64.b64encode(RECEIPT).decode(),
    ):
        assert ask(backend, IMAGE, value).status_code == 200
        assert sent_pictures(stub)[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "value", ["data:image/png;base64,!!!!", "data:image/png", "data:text/plain,x", "", 5, [], ["a", 1]]
)
def test_broken_values_are_errors_of_the_task(backend: Backend, value: Any) -> None:
    """With a sentence."""
    answer = ask(backend, IMAGE, value)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "task_data")


def test_the_first_pictures_of_a_list_are_sent(
    make_backend: MakeApp, stub: StubLLM, label_studio: FileServer
) -> None:
    """`valueList`, in order, at most IMAGE_MAX_PAGES."""
    label_studio.answer = lambda asked: Page(png((int(asked.path[1:]), 20)))
    backend = make_backend(ALLOWED_HOSTS="127.0.0.1", IMAGE_MAX_PAGES="2")
    addresses = [f"{label_studio.url}/{width}" for width in (30, 50, 70)]
    assert ask(backend, IMAGES, addresses).status_code == 200
    assert [picture[16:20] for picture in sent_pictures(stub)] == [
        (30).to_bytes(4, "big"),
        (50).to_bytes(4, "big"),
    ]


def test_the_template_says_that_the_picture_is_attached(backend: Backend, stub: StubLLM) -> None:
    """And the task's base64 is not repeated as text."""
    ask(backend, IMAGE, "data:image/png;base64," + base64.b64encode(PICTURE).decode())
    text, picture = stub.calls[0].body["messages"][-1]["content"]
    assert text == {"type": "text", "text": "Source Text: (see the attached picture)\n\nTask Directive: Read"}
    assert picture["type"] == "image_url"


@needs_tesseract
def test_ocr_sends_the_text_of_the_picture(make_backend: MakeApp, stub: StubLLM) -> None:
    """As `{text}`, and as the field of the task."""
    value = "data:image/png;base64," + base64.b64encode(RECEIPT).decode()
    backend = make_backend(IMAGE_INPUT="ocr", PROMPT_TEMPLATE="{text}|{x}|{prompt}")
    assert ask(backend, IMAGE, value).status_code == 200
    assert stub.prompts == ["GREEN GROCER\nTOTAL 12.34|GREEN GROCER\nTOTAL 12.34|Read"]


@needs_tesseract
def test_ocr_without_text_or_language_is_an_error(make_backend: MakeApp) -> None:
    """A blank page, and a language that is not installed."""
    blank = "data:image/png;base64," + base64.b64encode(png((200, 200), "white")).decode()
    assert "finds no text" in ask(make_backend(IMAGE_INPUT="ocr"), IMAGE, blank).status
    answer = ask(make_backend(IMAGE_INPUT="ocr", OCR_LANGUAGES="eng,tlh"), IMAGE, blank)
    assert "OCR_LANGUAGES=eng,tlh" in answer.status


def test_without_tesseract_ocr_says_what_to_install(
    make_backend: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Or to show the picture."""
    env = shutil.which("env")
    assert env
    (tmp_path / "env").symlink_to(env)
    monkeypatch.setenv("PATH", str(tmp_path))
    value = "data:image/png;base64," + base64.b64encode(RECEIPT).decode()
    answer = ask(make_backend(IMAGE_INPUT="ocr"), IMAGE, value)
    assert "tesseract-ocr" in answer.status


@needs_tesseract
def test_a_model_that_refuses_pictures_gets_text_from_then_on(make_backend: MakeApp, stub: StubLLM) -> None:
    """In batches too; another model is offered the picture again."""
    refusing = {"gpt-3.5-turbo"}

    def answer(call: Call) -> Answer:
        has_picture = isinstance(call.body["messages"][-1]["content"], list)
        return REFUSES if has_picture and call.body["model"] in refusing else completion("ok")

    stub.answer = answer
    value = "data:image/png;base64," + base64.b64encode(RECEIPT).decode()
    backend = make_backend()
    assert ask(backend, IMAGE, value).status_code == 200
    assert backend.predict([{"id": 2, "data": {"x": value}, "more": 1}], config=IMAGE).status_code == 200
    backend.setup(IMAGE, extra_params={"model": "gpt-4o"})
    assert ask(backend, IMAGE, value).status_code == 200
    contents = [
        (call.body["model"], isinstance(call.body["messages"][-1]["content"], list)) for call in stub.calls
    ]
    assert contents[0] == ("gpt-3.5-turbo", True)
    assert contents[1] == ("gpt-3.5-turbo", False)
    assert ("gpt-3.5-turbo", True) not in contents[1:]
    assert contents[-1] == ("gpt-4o", True)


def test_vision_only_says_that_the_model_takes_no_pictures(make_backend: MakeApp, stub: StubLLM) -> None:
    """Without falling back."""
    stub.says(REFUSES)
    value = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    answer = ask(make_backend(IMAGE_INPUT="vision"), IMAGE, value)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "pictures_refused")
    assert "IMAGE_INPUT=ocr" in answer.status


@pytest.mark.parametrize(
    ("config", "page", "text"),
    [
        (TEXT_AT, Page(" kept \n as is é".encode(), "text/plain"), " kept \n as is é"),
        (TEXT_AT, Page("é".encode("latin-1"), "text/plain; charset=ISO-8859-1"), "é"),
        (TEXT_AT, Page(b"\xef\xbb\xbfbom", "application/octet-stream"), "bom"),
        (TEXT_AT.replace("<Text ", '<Text savetextresult="yes" '), Page(b"t", "text/plain"), "t"),
        (TEXT_AT.replace("<Text ", '<Text savetextresult="no" '), Page(b"t", "text/plain"), "t"),
        (HYPERTEXT_AT, Page(b"<p>Hi</p><script>x</script>", "text/html"), "Hi"),
        (PARAGRAPHS_AT, Page(b'[{"author": "A", "text": "Hi"}]', "application/json"), "A: Hi"),
    ],
)  # fmt: skip
def test_texts_are_read_from_their_addresses(
    make_backend: MakeApp, stub: StubLLM, label_studio: FileServer, config: str, page: Page, text: str
) -> None:
    """`valueType="url"`, from an address and from Label Studio, whatever `savetextresult` says."""
    label_studio.says(page)
    backend = make_backend(LABEL_STUDIO_URL=label_studio.url, LABEL_STUDIO_API_KEY="t")
    for value in (f"{label_studio.url}/x", "/data/upload/1/x", "/data/upload/1/x"):
        assert ask(backend, config, value).status_code == 200
        assert stub.prompts[-1] == f"Source Text: {text}\n\nTask Directive: Read"
    assert [asked.headers.get("authorization") for asked in label_studio.asked] == [None, "Token t"]


@pytest.mark.parametrize(
    ("config", "page"),
    [
        (TEXT_AT, Page(PICTURE, "image/png")),
        (TEXT_AT, Page(b"\xff\xfe\xfa", "text/plain")),
        (TEXT_AT, Page(b"x", "text/plain; charset=hex")),
        (TEXT_AT, Page(rb"\ud800", "text/plain; charset=unicode_escape")),
        (TEXT_AT, Page(b"x", "text/plain; charset=nonsense")),
        (PARAGRAPHS_AT, Page(b"[", "application/json")),
        (PARAGRAPHS_AT, Page(b"[" * 100_000, "application/json")),
        (PARAGRAPHS_AT, Page(b'{"a": 1}', "application/json")),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_read_are_errors_of_the_task(
    make_backend: MakeApp, label_studio: FileServer, config: str, page: Page
) -> None:
    """Wrong type, wrong encoding, wrong JSON."""
    label_studio.says(page)
    answer = ask(make_backend(ALLOWED_HOSTS="127.0.0.1"), config, f"{label_studio.url}/x")
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "task_data")


def test_one_tasks_missing_file_is_its_own(make_backend: MakeApp, label_studio: FileServer) -> None:
    """The others of the batch get their predictions."""
    label_studio.answer = lambda asked: Page(status=404) if "gone" in asked.path else Page(PICTURE)
    backend = make_backend(ALLOWED_HOSTS="127.0.0.1", DEFAULT_PROMPT="x")
    names = ("1.png", "gone.png", "3.png")
    tasks = [{"id": i, "data": {"x": f"{label_studio.url}/{name}"}} for i, name in enumerate(names)]
    results = backend.predict(tasks, config=IMAGE).json["results"]
    assert [bool(result) for result in results] == [True, False, True]


def test_a_picture_is_fetched_once_within_minutes(
    make_backend: MakeApp, label_studio: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By other requests and processes of the same MODEL_DIR; after ten minutes it is fetched anew."""
    address = f"{label_studio.url}/a.png"
    for _ in range(2):
        backend = make_backend(ALLOWED_HOSTS="127.0.0.1")
        assert ask(backend, IMAGE, address).status_code == 200
        assert ask(backend, IMAGE, address).status_code == 200
    assert len(label_studio.asked) == 1
    now = time.time()
    monkeypatch.setattr("llm_backend.reading.cache.time.time", lambda: now + 601)
    assert ask(backend, IMAGE, address).status_code == 200
    assert len(label_studio.asked) == 2


def test_what_shapes_a_picture_changes_the_version(make_backend: MakeApp) -> None:
    """Of image projects only; limits that only refuse change nothing."""
    image, text = make_backend().setup(IMAGE).json, make_backend().setup(TEXT_AT).json
    for change in (
        {"IMAGE_INPUT": "ocr"},
        {"OCR_LANGUAGES": "deu"},
        {"IMAGE_MAX_SIDE": "512"},
        {"IMAGE_MAX_PAGES": "1"},
    ):
        assert make_backend(**change).setup(IMAGE).json != image
        assert make_backend(**change).setup(TEXT_AT).json == text
    assert make_backend(FETCH_TIMEOUT="1", IMAGE_MAX_PIXELS="10000").setup(IMAGE).json == image
