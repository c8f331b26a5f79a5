"""What is read of a task: text as it is, pages as a person sees them, dialogues as lines or messages."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.errors import InputError
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.task_data import variable
from llm_backend.parameters import load_settings
from llm_backend.reading import FileReader, ImageOptions, read_input
from llm_backend.reading.text import visible_text
from llm_backend.values import Message, TaskInput


def config(source: str) -> LabelingConfig:
    """A labeling config that reads this object tag, whose name must be `x`."""
    return parse_labeling_config(
        f'<View>{source}<TextArea name="prompt" toName="x"/><TextArea name="response" toName="x"/></View>',
        "prompt",
    )


IMAGES = ImageOptions("auto", ("eng",), max_side=2048, max_pages=5)
READER = FileReader(load_settings({}, env_file=None))
TEXT = config('<Text name="x" value="$text"/>')
HYPERTEXT = config('<HyperText name="x" value="$html"/>')
DIALOGUE = config('<Paragraphs name="x" value="$chat" nameKey="role" textKey="content"/>')


def read(source: LabelingConfig, data: dict[str, Any], dialogue_format: str = "text") -> TaskInput:
    """What is read of a task with this data."""
    return read_input(
        source.source, data, dialogue_format=dialogue_format, images=IMAGES, label_studio=None, reader=READER
    )


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


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        (" \n ", ""),
        ("plain text", "plain text"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("one<br>two", "one\ntwo"),
        ("a &amp; b &lt;i&gt; &eacute; &#8364;", "a & b <i> é €"),
        ("a&nbsp;b", "a b"),
        ("<b>bo</b>ld <i>text</i>.", "bold text."),
        ("un<span>believ</span>able", "unbelievable"),
        ("<span>Hello</span>, <span>world</span>.", "Hello, world."),
        ("H<sub>2</sub>O", "H2O"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("x<script>alert('s')</script>y", "xy"),
        ("<style>p { color: red }</style>y", "y"),
        ("<!-- c -->y", "y"),
        ("<template>t</template><noscript>n</noscript>y", "y"),
        ("<p hidden>h</p>y", "y"),
        ("<div style='display:none'>h</div>y", "y"),
        ("<html><head><title>T</title></head><body>B</body></html>", "B"),
        ("<!DOCTYPE html><html><body>B</body></html>", "B"),
        ("<?xml version='1.0' encoding='latin-1'?><p>é</p>", "é"),
        ("<meta charset='latin-1'><p>é 情感 🙂</p>", "é 情感 🙂"),
        ("<a href='http://x'>link</a>", "link"),
        ("<p>never closed", "never closed"),
        ("</p>", ""),
        ("<script>only</script>", ""),
        ("<p>a<!-- c -->\x1fb</p>", "a b"),
        ("<!-- c -->a\x0bb", "a b"),
    ],
)
def test_what_a_person_reads_of_a_page(html: str, text: str) -> None:
    """HyperText is read as it is seen: words, lines and entities, but no tags, scripts or hidden parts."""
    assert visible_text(html) == text
    assert read(HYPERTEXT, {"html": html}).text == visible_text(html)


def test_tables_and_lists_keep_their_words_apart() -> None:
    """Cells and items do not run into each other."""
    words = visible_text("<table><tr><td>1</td><td>2</td></tr></table><ul><li>a<li>b</ul>").split()
    assert [word for word in words if word.isalnum()] == ["1", "2", "a", "b"]


@pytest.mark.parametrize("depth", [300, 1500])
def test_deep_pages_are_read(depth: int) -> None:
    """However deep the words stand, they are read."""
    assert visible_text("<div>" * depth + "deep" + "</div>" * depth).strip() == "deep"


pieces = st.sampled_from(
    [
        *(
            f"<{tag}>"
            for tag in ("p", "div", "table", "tr", "td", "ul", "ol", "li", "pre", "script", "style", "svg")
        ),
        *(f"</{tag}>" for tag in ("p", "div", "table", "tr", "td", "ul", "pre", "script", "body", "html")),
        "<p style='margin-top: em; padding: x; display: what'>",
        "<td colspan=x valign=bottom align=none>",
        "<ol start=x>",
        "<!--",
        "-->",
        "<!>",
        "<?x",
        "&#1;",
        "&#xD800;",
        "&",
        "<",
        "\x00",
        "\x1f",
        "\x0c",
    ]
)


@settings(deadline=None)
@given(st.lists(pieces | st.text(max_size=4), max_size=12).map("".join))
@example("0<!>\x1f")
@example("<p hidden>a</p>&#1;")
@example("<script></script>&#1;b")
@example("\ud800")
def test_any_page_is_read(html: str) -> None:
    """Whatever stands in a page, reading it gives a text."""
    assert isinstance(visible_text(html), str)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=1))
def test_words_are_read_as_they_are(word: str) -> None:
    """A word in a paragraph is read as that word."""
    assert visible_text(f"<p>{word}</p>") == word


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
    task = read(DIALOGUE, data, "messages")
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
    assert read(DIALOGUE, data, "messages").dialogue == ()


@pytest.mark.parametrize("source", [TEXT, HYPERTEXT])
def test_only_paragraphs_are_a_chat(source: LabelingConfig) -> None:
    """Other objects have no messages, whatever the format is."""
    assert read(source, {"text": "user: Hi", "html": "user: Hi"}, "messages").dialogue == ()
