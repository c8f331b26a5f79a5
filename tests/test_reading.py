"""What is read of a task by each object tag, and that one more tag needs no more than its module."""

import base64
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_backend.errors import InputError, LabelingConfigError
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import variable
from llm_backend.reading import TAGS, FileReader, ObjectTag, Reading, TaskFiles, readable, register, show
from llm_backend.reading.ocr import missing_languages
from llm_backend.settings import Settings, load_settings
from llm_backend.values import Message
from testkit.canary import FileServer, Page, running
from testkit.pictures import encoded, written


def config(source: str) -> LabelingConfig:
    """A labeling config that reads this object tag, whose name must be `x`."""
    return parse_labeling_config(
        f'<View>{source}<TextArea name="prompt" toName="x"/><TextArea name="response" toName="x"/></View>',
        "prompt",
        "default",
        readable(),
    )


def environment(**variables: str) -> Settings:
    """The settings with these variables."""
    return load_settings(variables, env_file=None)


FILES = FileReader(environment()).files_for(None)
TEXT = config('<Text name="x" value="$text"/>')
HYPERTEXT = config('<HyperText name="x" value="$html"/>')
DIALOGUE = config('<Paragraphs name="x" value="$chat" nameKey="role" textKey="content"/>')


def read(source: LabelingConfig, data: dict[str, Any], files: TaskFiles = FILES, **variables: str) -> Reading:
    """What is read of a task with this data; settings as keyword arguments."""
    tag = TAGS[source.source.tag]
    return tag.read(source.source, data, tag.options(environment(**variables)), files)


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    """A task with a dialogue."""
    return {"chat": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        (" kept \n as is ", " kept \n as is "),
        ("<b>not a page</b> &amp;", "<b>not a page</b> &amp;"),
        ("/etc/passwd", "/etc/passwd"),
        ("https://example.com/page", "https://example.com/page"),
        ("s3://bucket/key.txt", "s3://bucket/key.txt"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("$text", "$text"),
        (5, "5"),
        (0, "0"),
        (False, "false"),
        (["é", {"a": 1}], '["é", {"a": 1}]'),
    ],
)
def test_text_is_read_as_is(value: Any, text: str) -> None:
    """A Text is what the task says: nothing is opened, fetched or cleaned; what is no string is JSON."""
    task = read(TEXT, {"text": value, "more": 1})
    assert (task.text, task.dialogue) == (text, ())
    assert task.fields == {"text": value, "more": 1}


@pytest.mark.parametrize(
    ("value", "data", "text", "field"),
    [
        ("$text", {"text": "a"}, "a", "text"),
        ("$my-field_1", {"my-field_1": "a"}, "a", "my-field_1"),
        ("$größe", {"größe": "a"}, "a", "größe"),
        ("$a.b", {"a": {"b": "deep"}}, "deep", "a.b"),
        ("$a[1].b", {"a": [{}, {"b": "deep"}]}, "deep", "a[1].b"),
        ("$a.b", {"a.b": "flat", "a": {"b": "deep"}}, "flat", "a.b"),
        ("Title: $title, by $author!", {"title": "T", "author": "A"}, "Title: T, by A!", ""),
        ("no variable", {}, "no variable", ""),
    ],
)
def test_the_object_s_value(value: str, data: dict[str, Any], text: str, field: str) -> None:
    """`value` is a field, a path into one, or text with such; only a single field has a name in prompts."""
    source = config(f'<Text name="x" value="{value}"/>')
    assert (read(source, data).text, variable(source.source.value)) == (text, field)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("$text", {}),
        ("$text", {"txet": "a", "other": "b"}),
        ("$text", {"text": None}),
        ("$a.b", {"a": "no object"}),
        ("$a[3]", {"a": [1]}),
        ("$title by $author", {"title": "T"}),
    ],
)
def test_a_missing_field_is_an_error(value: str, data: dict[str, Any]) -> None:
    """A task without the field is refused, and the reason names the field and those that exist."""
    with pytest.raises(InputError) as caught:
        read(config(f'<Text name="x" value="{value}"/>'), data)
    assert all(name in caught.value.reason for name in data)
    assert any(name in caught.value.reason for name in ("text", "a.b", "a[3]", "author"))


def test_value_type_text_is_read() -> None:
    """`valueType="text"` is a text in the task, as without it."""
    assert read(config('<Text name="x" value="$t" valueType="text"/>'), {"t": "a"}).text == "a"


def test_a_page_is_read_as_it_is_seen() -> None:
    """Of a HyperText the model gets words and lines, no markup and nothing hidden."""
    html = "<p hidden>no</p><b>bo</b>ld<br>text"
    assert read(HYPERTEXT, {"html": html}).text == "bold\ntext"


def test_a_dialogue_as_text() -> None:
    """Paragraphs are lines of `name: text`, by the tag's own keys."""
    task = read(DIALOGUE, turns(("user", "Hi"), ("assistant", "Hello\nthere")))
    assert (task.text, task.dialogue) == ("user: Hi\nassistant: Hello\nthere", ())


def test_a_dialogue_by_default_keys() -> None:
    """Without keys of their own Paragraphs have `author` and `text`."""
    source = config('<Paragraphs name="x" value="$chat"/>')
    assert read(source, {"chat": [{"author": "Ann", "text": "Hi"}]}).text == "Ann: Hi"


@pytest.mark.parametrize(
    ("chat", "text"),
    [
        ([], ""),
        ([{"content": "no name"}], "no name"),
        ([{"role": None, "content": "null name"}], "null name"),
        ([{"role": "Bob", "content": None}], "Bob: "),
        ([{"role": "Bob"}, {"role": "Ann", "content": "x"}], "Bob: \nAnn: x"),
        ([{"role": 7, "content": 5}], "7: 5"),
        ([{"role": "Bob", "content": "{text}", "start": 0.5}], "Bob: {text}"),
    ],
)
def test_odd_turns(chat: list[dict[str, Any]], text: str) -> None:
    """A turn without a name or a text is still a turn."""
    assert read(DIALOGUE, {"chat": chat}).text == text


@pytest.mark.parametrize(
    "chat",
    ["user: Hi", {"role": "user"}, ["Hi"], [{"role": "user"}, "Hi"], 5, [{"author": "Ann", "text": "Hi"}]],
)
def test_what_is_no_dialogue_is_an_error(chat: Any) -> None:
    """Paragraphs need a list of turns that have the tag's text key."""
    with pytest.raises(InputError):
        read(DIALOGUE, {"chat": chat})


def test_chat_messages() -> None:
    """With `messages`, a dialogue of chat roles is also given as chat messages, and its text all the same."""
    data = turns(("System", "Be kind"), ("user", "Hi"), ("ASSISTANT", "Hello"), ("developer", "d"))
    task = read(DIALOGUE, data, DIALOGUE_FORMAT="messages")
    assert task.dialogue == (
        Message("system", "Be kind"),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("developer", "d"),
    )
    assert task.text == "System: Be kind\nuser: Hi\nASSISTANT: Hello\ndeveloper: d"


@pytest.mark.parametrize(
    "data",
    [
        turns(("user", "Hi"), ("Bob", "Hello")),
        turns(("human", "Hi"), ("gpt", "Hello")),
        turns(("user", "Hi"), ("", "who?")),
        turns(),
    ],
)
def test_a_dialogue_of_people_is_not_a_chat(data: dict[str, Any]) -> None:
    """When one name is no chat role, the dialogue goes into the template."""
    assert read(DIALOGUE, data, DIALOGUE_FORMAT="messages").dialogue == ()


@pytest.mark.parametrize("source", [TEXT, HYPERTEXT])
def test_only_paragraphs_are_a_chat(source: LabelingConfig) -> None:
    """Other objects have no messages, whatever the format is."""
    assert read(source, {"text": "user: Hi", "html": "user: Hi"}, DIALOGUE_FORMAT="messages").dialogue == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content"]) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from([TEXT, HYPERTEXT, DIALOGUE]), st.sampled_from(["text", "messages"]))
def test_any_value_is_read_or_refused(value: Any, source: LabelingConfig, dialogue_format: str) -> None:
    """Whatever a task says, there is a text, or an error of the task."""
    data = {"text": value, "html": value, "chat": value}
    with suppress(InputError):
        assert isinstance(read(source, data, DIALOGUE_FORMAT=dialogue_format).text, str)


@pytest.mark.parametrize("source", [TEXT, HYPERTEXT, DIALOGUE])
def test_the_text_that_was_read_is_what_a_comparison_shows(source: LabelingConfig) -> None:
    """A tag that says so (`is_text`) need not read its object again for that."""
    data = {"text": "a", "html": "<b>b</b>"} | turns(("user", "c"))
    assert TAGS[source.source.tag].is_text
    assert read(source, data, DIALOGUE_FORMAT="messages").text == show(source.source, data, FILES)


def test_what_an_object_shows_beside_another() -> None:
    """A comparison has the texts of its sides, and the name of what is no text, which is not fetched."""
    data = {"text": "a", "html": "<b>b</b>", "picture": "http://127.0.0.1:1/x.png"} | turns(("user", "c"))
    sources = {
        "a": Source("x", "Text", "$text"),
        "b": Source("x", "HyperText", "$html"),
        "user: c": Source("x", "Paragraphs", "$chat", name_key="role", text_key="content"),
        "the picture": Source("the picture", "Image", "$picture"),
        "the sound": Source("the sound", "Audio", "$sound"),
    }
    assert [show(source, data, FILES) for source in sources.values()] == list(sources)


@pytest.mark.parametrize(
    ("tag", "variable", "counts"),
    [
        ("Text", {"DIALOGUE_FORMAT": "messages", "IMAGE_INPUT": "ocr"}, False),
        ("HyperText", {"DIALOGUE_FORMAT": "messages", "IMAGE_INPUT": "ocr"}, False),
        ("Paragraphs", {"DIALOGUE_FORMAT": "messages"}, True),
        ("Paragraphs", {"IMAGE_INPUT": "ocr"}, False),
        ("Image", {"IMAGE_INPUT": "ocr"}, True),
        ("Image", {"IMAGE_INPUT": "vision"}, True),
        ("Image", {"OCR_LANGUAGES": "deu"}, True),
        ("Image", {"IMAGE_MAX_SIDE": "512"}, True),
        ("Image", {"IMAGE_MAX_PAGES": "1"}, True),
        ("Image", {"DIALOGUE_FORMAT": "messages", "IMAGE_MAX_PIXELS": "10000", "FETCH_TIMEOUT": "1"}, False),
    ],
)
def test_the_options_of_a_tag_are_what_shapes_its_reading(
    tag: str, variable: dict[str, str], counts: bool
) -> None:
    """Settings of other tags, and limits that only refuse, are not among them."""
    assert (TAGS[tag].options(environment(**variable)) != TAGS[tag].options(environment())) == counts


def test_languages_count_only_where_a_text_is_read() -> None:
    """With `vision` there is no OCR; with `ocr` no picture goes out, and so no note beside it."""
    options = [
        TAGS["Image"].options(environment(IMAGE_INPUT=how, OCR_LANGUAGES=language))
        for how in ("vision", "ocr")
        for language in ("eng", "deu")
    ]
    assert options[0] == options[1]
    assert options[2] != options[3]
    assert [bool(option.note) for option in options] == [True, True, False, False]


@pytest.fixture
def picture() -> Iterator[FileServer]:
    """A server that has a receipt."""
    with running() as server:
        server.says(Page(encoded(written("GREEN GROCER"), "PNG")))
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Iterator[TaskFiles]:
    """The files of tasks that may name this machine."""
    reader = FileReader(environment(ALLOWED_HOSTS="127.0.0.1", MODEL_DIR=str(tmp_path)))
    yield reader.files_for(None)
    reader.close()


@given(st.text(), st.booleans())
def test_a_text_inside_an_address_is_read(text: str, in_base64: bool) -> None:
    """A `data:` URL holds the text that was written into it, percent-encoded or in base64."""
    content = text.encode()
    body = f";base64,{base64.b64encode(content).decode()}" if in_base64 else f",{quote(content)}"
    with TemporaryDirectory() as folder:
        reader = FileReader(environment(MODEL_DIR=folder))
        try:
            read_back = reader.files_for(None).text_at(f"data:text/plain;charset=UTF-8{body}")
        finally:
            reader.close()
    assert read_back == text.removeprefix("\ufeff")


IMAGE = config('<Image name="x" value="$picture"/>')


@pytest.mark.skipif(missing_languages(["eng"]) is None, reason="tesseract is not installed")
def test_without_pictures_the_text_of_the_same_pictures_is_read(
    picture: FileServer, files: TaskFiles, tmp_path: Path
) -> None:
    """Nothing is fetched a second time, also where nothing has stayed in the cache."""
    data = {"picture": f"{picture.url}/a.png"}
    read_first = read(IMAGE, data, files)
    assert (len(read_first.pictures), read_first.text) == (1, "(see the attached picture)")
    shutil.rmtree(tmp_path / "pictures")
    picture.says(Page(status=404))
    assert read_first.without_pictures is not None
    assert read_first.without_pictures() == Reading("GREEN GROCER", data)
    assert len(picture.asked) == 1


@pytest.mark.skipif(missing_languages(["eng"]) is None, reason="tesseract is not installed")
def test_ocr_reads_the_text_at_once(picture: FileServer, files: TaskFiles) -> None:
    """The model gets no picture, and there is nothing to fall back on."""
    task = read(IMAGE, {"picture": f"{picture.url}/a.png"}, files, IMAGE_INPUT="ocr")
    assert (task.text, task.pictures, task.without_pictures) == ("GREEN GROCER", (), None)


def test_vision_has_no_fall_back(picture: FileServer, files: TaskFiles) -> None:
    """A model that takes no pictures is then the wrong one."""
    task = read(IMAGE, {"picture": f"{picture.url}/a.png"}, files, IMAGE_INPUT="vision")
    assert len(task.pictures) == 1
    assert task.without_pictures is None


class Table(ObjectTag[str]):
    """A toy: Label Studio's Table, which shows an object of names and values."""

    name = "Table"

    def options(self, settings: Settings) -> str:
        """A setting that shapes it."""
        return settings.dialogue_format

    def read(self, source: Source, data: Mapping[str, Any], options: str, files: TaskFiles) -> Reading:
        """Its cells."""
        cells = data[variable(source.value)]
        return Reading(", ".join(f"{name} is {value}" for name, value in cells.items()), data)

    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """Its cells, too."""
        return self.read(source, data, "text", files).text


@pytest.fixture
def table() -> Iterator[None]:
    """One more tag for a test."""
    register(Table())
    yield
    del TAGS[Table.name]


@pytest.mark.usefixtures("table")
def test_one_more_tag_is_one_more_module() -> None:
    """Its name in a labeling config is enough, in any case, for reading and for comparing."""
    source = config('<table name="x" value="$cells"/>')
    data = {"cells": {"colour": "red", "size": 5}}
    assert source.source.tag == "Table"
    assert read(source, data).text == "colour is red, size is 5"
    assert show(source.source, data, FILES) == "colour is red, size is 5"
    with pytest.raises(LabelingConfigError, match="Text, HyperText, Paragraphs, Image or Table"):
        config('<Video name="x" value="$v"/>')


def test_without_the_module_the_tag_is_unknown() -> None:
    """The sentence names those that can be read."""
    with pytest.raises(LabelingConfigError, match=re.escape("a Text, HyperText, Paragraphs or Image tag")):
        config('<Table name="x" value="$cells"/>')
