"""Receipts on the labeling page: read by OCR and seen by a model, from wherever Label Studio has them."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from testkit.real_label_studio import LabelingPage, LabelStudio
from testkit.stub_llm import Answer, Call, StubLLM, completion, failure, running_stub
from tests.e2e.conftest import ROOT, Backend

EXAMPLE = ROOT / "examples" / "document-images"
CONFIG = (EXAMPLE / "label_config.xml").read_text(encoding="utf-8")
PROMPT = "What was bought? Name the category."

MakeBackend = Callable[..., Backend]


@pytest.fixture(scope="module")
def seeing_llm() -> Iterator[StubLLM]:
    """An LLM that takes pictures, and says how large they are."""
    with running_stub() as stub:
        stub.answer = look_at
        yield stub


@pytest.fixture
def make_backend(
    tmp_path_factory: pytest.TempPathFactory, label_studio: LabelStudio, seeing_llm: StubLLM
) -> Iterator[MakeBackend]:
    """Makes a server under test that asks the LLM that sees, and that knows Label Studio by a token."""
    seeing_llm.calls.clear()
    seeing_llm.answer = look_at
    started: list[Backend] = []

    def make(token: str, **variables: str) -> Backend:
        settings = {
            "OPENAI_PROVIDER": "openai",
            "OPENAI_BASE_URL": seeing_llm.url,
            "OPENAI_API_KEY": "sk-test",
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": token,
        }
        server = Backend(tmp_path_factory.mktemp("seeing"), settings | variables)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


def look_at(call: Call) -> Answer:
    """Answers with the size of the picture in the last message."""
    text, picture = call.body["messages"][-1]["content"]
    with Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2]))) as image:
        return completion(f"Groceries. I see {image.width} x {image.height} pixels. {len(text['text'])}")


def refuse_pictures(call: Call) -> Answer:
    """Answers as gpt-3.5-turbo does, and to a text with what it was."""
    content = call.body["messages"][-1]["content"]
    if isinstance(content, list):
        return failure(400, "Invalid content type. image_url is only supported by certain models.")
    return completion(f"Groceries. I read: {' '.join(content.split())}")


def open_first(page: Page, label_studio: LabelStudio, project: int) -> LabelingPage:
    """The labeling page of the project's first task."""
    task = label_studio.tasks(project)[0]["id"]
    return LabelingPage(page, label_studio.labeling_url(project, task))


def expect_answer(labeling: LabelingPage, says: str) -> None:
    """The response says that, and the category is ticked."""
    expect(labeling.text("summarization-response")).to_contain_text(says)
    expect(labeling.page.get_by_text("Groceries").first).to_be_visible()


def test_the_embedded_model_gets_the_text_of_a_receipt(
    page: Page, label_studio: LabelStudio, connected_project: Callable[[str], int], screenshots: Path
) -> None:
    """OCR, end to end and without a key: the model's answer fills the summary."""
    labeling = open_first(page, label_studio, connected_project("document-images"))
    answer = labeling.ask("What is the name of the shop on this receipt? Answer in one short sentence.")
    (response,) = (r for r in answer["data"]["result"] if r["from_name"] == "summarization-response")
    expect(labeling.text("summarization-response")).to_have_text(response["value"]["text"][0])
    expect(labeling.text("summarization-response")).to_contain_text(re.compile("green", re.IGNORECASE))
    page.screenshot(path=screenshots / "document-images-ocr-embedded.png")


def test_a_model_that_sees_gets_the_picture(
    page: Page, label_studio: LabelStudio, make_backend: MakeBackend, screenshots: Path
) -> None:
    """Vision, end to end: the picture of the example's task arrives as it is, and the answer is filled in."""
    project = label_studio.create_project(EXAMPLE)
    backend = make_backend(label_studio.personal_access_token())
    assert label_studio.connect(project, backend.url).status_code == 201
    labeling = open_first(page, label_studio, project)
    labeling.ask(PROMPT)
    expect_answer(labeling, "I see 480 x")
    page.screenshot(path=screenshots / "document-images-vision.png")


def test_a_model_that_refuses_pictures_gets_their_text(
    page: Page, label_studio: LabelStudio, make_backend: MakeBackend, seeing_llm: StubLLM, screenshots: Path
) -> None:
    """IMAGE_INPUT=auto falls back to OCR, at once, and does not offer a picture again."""
    seeing_llm.answer = refuse_pictures
    project = label_studio.create_project(EXAMPLE)
    backend = make_backend(label_studio.personal_access_token())
    assert label_studio.connect(project, backend.url).status_code == 201
    labeling = open_first(page, label_studio, project)
    labeling.ask(PROMPT)
    expect_answer(labeling, "TOTAL")
    labeling.ask(PROMPT + " Again.")
    expect(labeling.text("summarization-response")).to_contain_text("Again.")
    offered = [isinstance(call.body["messages"][-1]["content"], list) for call in seeing_llm.calls]
    assert offered == [True, False, False]
    page.screenshot(path=screenshots / "document-images-ocr.png")


@pytest.mark.parametrize("kind", ["personal", "legacy"])
def test_uploads_are_read_with_either_token(
    page: Page, label_studio: LabelStudio, make_backend: MakeBackend, kind: str, screenshots: Path
) -> None:
    """A file that was uploaded to Label Studio is fetched with its token and shown to the model."""
    token = label_studio.personal_access_token() if kind == "personal" else label_studio.token
    project = label_studio.create_project_of_files("uploads", CONFIG, sorted(EXAMPLE.glob("*.png")))
    assert label_studio.tasks(project)[0]["data"]["image"].startswith("/data/upload/")
    backend = make_backend(token)
    assert label_studio.connect(project, backend.url).status_code == 201
    labeling = open_first(page, label_studio, project)
    labeling.ask(PROMPT)
    expect_answer(labeling, "I see 480 x")
    label_studio.retrieve_predictions(project)
    assert len(label_studio.predictions(project)) == 3
    page.screenshot(path=screenshots / f"document-images-upload-{kind}.png")


@pytest.mark.parametrize("kind", ["personal", "legacy"])
def test_local_files_are_read_with_either_token(
    page: Page, label_studio: LabelStudio, make_backend: MakeBackend, kind: str
) -> None:
    """A file of Label Studio's own disk is fetched from Label Studio, with its token."""
    token = label_studio.personal_access_token() if kind == "personal" else label_studio.token
    address = f"/data/local-files/?d={kind}/fuel.png"
    project = label_studio.create_project_of("local files", CONFIG, [{"image": address}])
    stored = label_studio.add_local_files(project, kind) / "fuel.png"
    stored.write_bytes((EXAMPLE / "fuel.png").read_bytes())
    backend = make_backend(token)
    assert label_studio.connect(project, backend.url).status_code == 201
    labeling = open_first(page, label_studio, project)
    labeling.ask(PROMPT)
    expect_answer(labeling, "I see 480 x 432 pixels")


def test_a_wrong_token_says_which_to_make(
    label_studio: LabelStudio, make_backend: MakeBackend, page: Page
) -> None:
    """Label Studio's 401 becomes a sentence with the kind of token and the place to make it."""
    project = label_studio.create_project_of_files("no token", CONFIG, [EXAMPLE / "fuel.png"])
    backend = make_backend("0" * 40)
    assert label_studio.connect(project, backend.url).status_code == 201
    answer = open_first(page, label_studio, project).ask(PROMPT)
    assert "personal access token" in str(answer)
