"""Labeling configs: which control is the prompt, what is read, what is filled, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.asking.question import labels_of
from llm_backend.errors import LabelingConfigError, reason_phrase
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.controls import Label
from llm_backend.labeling.controls.choices import Choices
from llm_backend.reading import readable

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PROMPT = '<TextArea name="prompt" toName="text"/>'
RESPONSE = '<TextArea name="response" toName="text"/>'
YES_NO = '<Choices name="answer" toName="text"><Choice value="Yes"/><Choice value="No"/></Choices>'


def view(*controls: str, source: str = '<Text name="text" value="$text"/>') -> str:
    """A labeling config with this object tag and these controls."""
    return f"<View>{source}{''.join(controls)}</View>"


def parse(xml: str, prefix: str = "prompt") -> LabelingConfig:
    """The parsed config."""
    return parse_labeling_config(xml, prefix, "default", readable())


def choices_of(config: LabelingConfig) -> list[Choices]:
    """The Choices among the controls."""
    return [control for control in config.controls if isinstance(control, Choices)]


@pytest.mark.parametrize(
    ("name", "object_tag", "object_name", "value", "response", "choices"),
    [
        ("text-classification", "Text", "text", "$text", "response", {"sentiment": 2}),
        ("chat-fine-tuning", "Paragraphs", "chat", "$dialogue", "response", {}),
        ("response-evaluation", "Text", "context", "$text", "response", {}),
        ("document-images", "Image", "image", "$image", "summarization-response", {"category": 21}),
    ],
)
def test_the_four_examples(
    name: str, object_tag: str, object_name: str, value: str, response: str, choices: dict[str, int]
) -> None:
    """The example projects' configs say what their projects are about."""
    config = parse((EXAMPLES / name / "label_config.xml").read_text(encoding="utf-8"))
    assert config.prompt == "prompt"
    assert (config.source.tag, config.source.name, config.source.value) == (object_tag, object_name, value)
    assert config.response == response
    assert {item.name: len(item.labels) for item in choices_of(config)} == choices


def test_the_keys_of_a_dialogue() -> None:
    """Paragraphs' own `nameKey` and `textKey` are read, and have Label Studio's defaults."""
    chat = (EXAMPLES / "chat-fine-tuning" / "label_config.xml").read_text(encoding="utf-8")
    assert (parse(chat).source.name_key, parse(chat).source.text_key) == ("role", "content")
    default = parse(view(PROMPT, RESPONSE, source='<Paragraphs name="text" value="$d"/>'))
    assert (default.source.name_key, default.source.text_key) == ("author", "text")


@pytest.mark.parametrize(
    ("controls", "prefix", "prompt", "response"),
    [
        (["prompt", "response"], "prompt", "prompt", "response"),
        (["response", "prompt"], "prompt", "prompt", "response"),
        (["prompt-1", "response"], "prompt", "prompt-1", "response"),
        (["prompt-1", "prompt"], "prompt", "prompt", "prompt-1"),
        (["prompt", "prompt-1"], "prompt", "prompt", "prompt-1"),
        (["prompt-1", "prompt-2"], "prompt", "prompt-1", "prompt-2"),
        (["my-prompt", "response"], "my-prompt", "my-prompt", "response"),
        (["prompt", "frage"], "frage", "frage", "prompt"),
        (["a prompt", "prompt"], "prompt", "prompt", "a prompt"),
    ],
)
def test_which_text_area_is_the_prompt(controls: list[str], prefix: str, prompt: str, response: str) -> None:
    """The prompt's name starts with the prefix, and a name equal to it wins; the other takes the replies."""
    config = parse(view(*(f'<TextArea name="{name}" toName="text"/>' for name in controls)), prefix)
    assert (config.prompt, config.response) == (prompt, response)


def test_only_a_text_area_is_a_prompt() -> None:
    """Another control whose name starts with the prefix is not the prompt."""
    choices = YES_NO.replace('"answer"', '"prompt"')
    config = parse(view(choices, '<TextArea name="prompt-text" toName="text"/>', RESPONSE))
    assert config.prompt == "prompt-text"
    assert [item.name for item in choices_of(config)] == ["prompt"]


@pytest.mark.parametrize("tag", ["Text", "HyperText", "Paragraphs", "Image"])
@pytest.mark.parametrize("spelled", [str, str.lower])
def test_known_object_tags(tag: str, spelled: type[str]) -> None:
    """Four object tags are known, in any case, as Label Studio takes them."""
    config = parse(view(PROMPT, RESPONSE, source=f'<{spelled(tag)} name="text" value="$x"/>'))
    assert (config.source.tag, config.source.value) == (tag, "$x")


def test_the_prompt_says_which_object_is_read() -> None:
    """Of several objects, the prompt's `toName` counts, and so do only the controls on that object."""
    config = parse(
        '<View><Text name="a" value="$a"/><Text name="b" value="$b"/>'
        '<TextArea name="on-a" toName="a"/><TextArea name="prompt" toName="b"/>'
        '<TextArea name="on-b" toName="b"/><Choices name="c" toName="a"><Choice value="x"/></Choices></View>'
    )
    assert (config.source.name, config.response, choices_of(config)) == ("b", "on-b", [])


@pytest.mark.parametrize(
    ("to_name", "object_name"), [("a,b", "a"), ("b,a", "b"), ("video,b", "b"), ("missing,a", "a")]
)
def test_a_prompt_on_several_objects(to_name: str, object_name: str) -> None:
    """Of a list in `toName`, the first that can be read is read, and a control on a list takes part."""
    config = parse(
        '<View><Text name="a" value="$a"/><HyperText name="b" value="$b"/><Video name="video" value="$v"/>'
        f'<TextArea name="prompt" toName="{to_name}"/><TextArea name="response" toName="a,b"/></View>'
    )
    assert (config.source.name, config.response) == (object_name, "response")


def test_choices() -> None:
    """Choices give their labels in order, and `choice="multiple"` is the only way to several."""
    multiple = YES_NO.replace('"answer"', '"several"').replace("toName", 'choice="multiple" toName')
    single = YES_NO.replace('"answer"', '"one"').replace("toName", 'choice="single" toName')
    radio = YES_NO.replace('"answer"', '"radio"').replace("toName", 'choice="single-radio" toName')
    config = parse(view(PROMPT, YES_NO, multiple, single, radio))
    assert {item.name: item.multiple for item in choices_of(config)} == {
        "answer": False,
        "several": True,
        "one": False,
        "radio": False,
    }
    assert choices_of(config)[0].labels == (Label("Yes", "Yes"), Label("No", "No"))
    assert labels_of(config.controls) == ("Yes", "No")
    assert config.response is None


def test_an_alias_is_stored_and_the_value_is_shown() -> None:
    """The model is shown what an annotator reads; Label Studio stores the alias."""
    config = parse(
        view(
            PROMPT,
            '<Choices name="c" toName="text"><Choice value="Good" alias="1"/>'
            '<Choice value="Bad" alias=""/></Choices>',
        )
    )
    assert config.controls == (Choices("c", (Label("Good", "1"), Label("Bad", "Bad")), multiple=False),)


def test_labels_may_stand_deeper() -> None:
    """Labels within views belong to their Choices; a choice within a choice is not on the page."""
    config = parse(
        view(
            PROMPT,
            '<Choices name="c" toName="text"><View><!-- <Choice value="z"/> --><View>'
            '<Choice value="a"/></View><Choice value="b"/></View>'
            '<Choice value="parent"><Choice value="child"/></Choice></Choices>',
        )
    )
    assert labels_of(config.controls) == ("a", "b", "parent")


def test_other_controls_are_left_alone() -> None:
    """What is neither a TextArea nor Choices is not filled, and does no harm."""
    config = parse(
        view(
            PROMPT,
            RESPONSE,
            '<Taxonomy name="t" toName="text"><Choice value="x"/></Taxonomy>',
            '<Rating name="r" toName="text"/><Labels name="l" toName="text"><Label value="y"/></Labels>',
        )
    )
    assert (config.response, choices_of(config), labels_of(config.controls)) == ("response", [], ())


@pytest.mark.parametrize(
    "xml",
    [
        "\n  " + view(PROMPT, RESPONSE) + "\n",
        '<?xml version="1.0"?>' + view(PROMPT, RESPONSE),
        "<!-- first -->" + view("<!-- second -->", PROMPT, RESPONSE) + "<!-- last -->",
        view('<!-- {"data": {"text": "a sample task"}} -->', PROMPT, RESPONSE),
        view("<!-- { no JSON -->", PROMPT, RESPONSE),
        view("<Style>.a > .b { content: '{text}' }</Style>", PROMPT, RESPONSE),
        view("<!-- paste no <!DOCTYPE html> here -->", PROMPT, RESPONSE),
        view("<View><View>" * 40, PROMPT, RESPONSE, "</View></View>" * 40),
    ],
)
def test_what_else_stands_in_configs(xml: str) -> None:
    """Comments, sample tasks, styles, declarations and depth change nothing."""
    assert (parse(xml).prompt, parse(xml).response) == ("prompt", "response")


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (view(RESPONSE), '<TextArea name="prompt"'),
        (view(), '<TextArea name="prompt"'),
        ("<View/>", '<TextArea name="prompt"'),
        (view('<TextArea name="Prompt" toName="text"/>', RESPONSE), '<TextArea name="prompt"'),
        (view('<TextArea name="prompt"/>', RESPONSE), '<TextArea name="prompt"'),
        (view(YES_NO.replace('"answer"', '"prompt"')), '<TextArea name="prompt"'),
        (view('<TextArea name="prompt" toName="txet"/>', RESPONSE), 'toName="txet"'),
        (view(PROMPT, RESPONSE, source='<Audio name="text" value="$x"/>'), "HyperText"),
        (view(PROMPT, RESPONSE, source='<Text name="text"/>'), "value"),
        (view(PROMPT), '<TextArea name="response" toName="text"/>'),
        (view(PROMPT, '<Rating name="r" toName="text"/>'), '<TextArea name="response" toName="text"/>'),
        (view(PROMPT, '<Choices name="c" toName="text"/>'), "nothing to fill"),
        (view(PROMPT, '<TextArea name="response" toName="other"/>'), "nothing to fill"),
    ],
)
def test_what_cannot_work_is_refused(xml: str, says: str) -> None:
    """Without a prompt, a known object or something to fill the reason says what to add, in a status line."""
    with pytest.raises(LabelingConfigError) as caught:
        parse(xml)
    assert says in reason_phrase(caught.value.reason)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "xml",
    [
        "",
        " ",
        "garbage",
        "{}",
        "<View>",
        "</View>",
        "<View></Veiw>",
        "<View attr></View>",
        "<View>&nbsp;</View>",
        "<a:b/>",
        "\x00",
        "<View>\x00</View>",
        "<View>\ud800</View>",
        '<?pi name="x" toName="y"?><View/>',
        "<View>" * 5000,
        '<View><?pi name="prompt" toName="text" value="$x"?></View>',
        '<!DOCTYPE View [<!ENTITY x "y">]>' + view(PROMPT, RESPONSE),
        '<!DOCTYPE View SYSTEM "file:///etc/passwd">' + view(PROMPT, RESPONSE),
        '<!DOCTYPE lolz [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><View>&b;</View>',
        "<View>" + "x" * 2_000_000 + "</View>",
    ],
)
def test_garbage_is_refused(xml: str) -> None:
    """What is no XML, or carries a DOCTYPE or entities, is refused with a reason, and never crashes."""
    with pytest.raises(LabelingConfigError):
        parse(xml)


def test_a_config_is_parsed_once() -> None:
    """The same text gives the same object; another text or prefix does not."""
    xml = view(PROMPT, RESPONSE, "<!-- parsed once -->")
    assert parse(xml) is parse("".join(list(xml)))
    assert parse(xml) is not parse(xml + " ")
    assert parse(xml) is not parse(xml, "prom")


markup = st.sampled_from(
    [
        "<View>",
        "</View>",
        PROMPT,
        RESPONSE,
        YES_NO,
        '<Text name="text" value="$text"/>',
        "<!-- ",
        " -->",
        "<",
        ">",
        "&",
        "]]>",
    ]
)


@settings(deadline=None)
@given(st.lists(markup | st.text(max_size=4), max_size=10).map("".join))
def test_any_text_is_parsed_or_refused(xml: str) -> None:
    """Whatever stands in a config, the only error is ours."""
    try:
        config = parse(xml)
    except LabelingConfigError:
        return
    assert config.controls
