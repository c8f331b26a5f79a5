"""Every kind of control: its schema, what it takes of an answer, and regions that Label Studio accepts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.asking.prompts import controls_message, wording
from llm_backend.errors import LabelingConfigError
from llm_backend.label_studio.regions import build_prediction
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.controls import Control, Label, Labels, response_format
from llm_backend.labeling.replies import values_from_replies
from llm_backend.reading import READABLE
from llm_backend.values import Json, Reply

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEXT = "Anna met Bob in Paris. Bob likes Paris 😀 and Anna-Lena."
TREE = (
    '<Choice value="Food"><Choice value="Fruit" alias="f"><Choice value="Apple"/></Choice>'
    '<Choice value="Bread"/></Choice><Choice value="Other"><Choice value="Bread"/></Choice>'
)


def config(control: str, fill: str = "all") -> LabelingConfig:
    """A labeling config with a prompt and this control."""
    return parse_labeling_config(
        '<View><Text name="text" value="$text"/><Text name="second" value="$second"/>'
        f'<TextArea name="prompt" toName="text"/>{control}</View>',
        "prompt",
        fill,
        READABLE,
    )


def filled(control: str, answer: Any, data: Json | None = None) -> list[Any]:
    """The values that a JSON answer for the one control `x` gives; the prediction is valid."""
    parsed = config(control)
    controls = tuple(item.for_task(data or {}, lambda source: source.name) for item in parsed.controls)
    reply = Reply(json.dumps({"x": answer}))
    values = values_from_replies(controls, [reply], TEXT, form="json")
    prediction = build_prediction(parsed.prompt, parsed.source.name, "p", values, "m")
    assert parsed.interface.validate_prediction(prediction, return_errors=True) == []
    return [region["value"] for region in prediction["result"][1:]]


def said(control: str, reply: str) -> list[Any]:
    """The values that a reply in free text gives."""
    values = values_from_replies(config(control).controls, [Reply(reply)], TEXT, form="lines")
    return [next(iter(value.value.values())) for value in values.values]


SINGLE = '<Choices name="x" toName="text"><Choice value="Good" alias="g"/><Choice value="Bad"/></Choices>'
MULTIPLE = SINGLE.replace("<Choices", '<Choices choice="multiple"')
RADIO = SINGLE.replace("<Choices", '<Choices choice="single-radio"')
TAXONOMY = f'<Taxonomy name="x" toName="text">{TREE}</Taxonomy>'
LEAFS = f'<Taxonomy name="x" toName="text" leafsOnly="true">{TREE}</Taxonomy>'
RATING = '<Rating name="x" toName="text" maxRating="4"/>'
NUMBER = '<Number name="x" toName="text" min="1" max="10" step="0.5"/>'
FREE_NUMBER = '<Number name="x" toName="text"/>'
DATE = '<DateTime name="x" toName="text" only="date" min="2000-01-01" max="2026-12-31"/>'
YEAR = '<DateTime name="x" toName="text" only="year" min="1990"/>'
TIME = '<DateTime name="x" toName="text" only="time"/>'
MOMENT = '<DateTime name="x" toName="text"/>'
GERMAN = '<DateTime name="x" toName="text" only="date" format="%d.%m.%Y"/>'
PAIRWISE = '<Pairwise name="x" toName="text,second"/>'
LABELS = '<Labels name="x" toName="text"><Label value="Person" alias="PER"/><Label value="Place"/></Labels>'


def quote(text: str, label: str = "Person", occurrence: int | None = None) -> Json:
    """A quote as a model gives it."""
    return {"quote": text, "label": label, "occurrence": occurrence}


@pytest.mark.parametrize(
    ("control", "answer", "values"),
    [
        (SINGLE, "Good", [{"choices": ["g"]}]),
        (SINGLE, "g", [{"choices": ["g"]}]),
        (SINGLE, "good.", [{"choices": ["g"]}]),
        (SINGLE, ["Good", "Bad"], []),
        (SINGLE, "Fine", []),
        (SINGLE, None, []),
        (RADIO, "Bad", [{"choices": ["Bad"]}]),
        (RADIO, ["Bad", "Bad"], [{"choices": ["Bad"]}]),
        (MULTIPLE, ["Bad", "Good", "Bad"], [{"choices": ["g", "Bad"]}]),
        (MULTIPLE, ["Bad", "Fine"], [{"choices": ["Bad"]}]),
        (MULTIPLE, [], []),
        (TAXONOMY, ["Food > Fruit > Apple"], [{"taxonomy": [["Food", "f", "Apple"]]}]),
        (TAXONOMY, ["Food > Fruit", "Other"], [{"taxonomy": [["Food", "f"], ["Other"]]}]),
        (TAXONOMY, ["food / bread"], [{"taxonomy": [["Food", "Bread"]]}]),
        (TAXONOMY, ["Food", "Bread"], [{"taxonomy": [["Food", "Bread"]]}]),
        (TAXONOMY, [["Other", "Bread"], ["Food", "f"]], [{"taxonomy": [["Other", "Bread"], ["Food", "f"]]}]),
        (TAXONOMY, "Apple", [{"taxonomy": [["Food", "f", "Apple"]]}]),
        (TAXONOMY, ["Bread"], []),
        (TAXONOMY, ["Fruit > Apple"], []),
        (TAXONOMY, ["Apple > Fruit > Food"], []),
        (LEAFS, ["Food > Fruit"], []),
        (LEAFS, ["Food > Fruit > Apple", "Food"], [{"taxonomy": [["Food", "f", "Apple"]]}]),
        (RATING, 4, [{"rating": 4}]),
        (RATING, "3", [{"rating": 3}]),
        (RATING, 5, []),
        (RATING, 0, []),
        (RATING, 2.5, []),
        (NUMBER, 7.5, [{"number": 7.5}]),
        (NUMBER, 7.0, [{"number": 7}]),
        (NUMBER, 7.3, []),
        (NUMBER, 0.5, []),
        (NUMBER, 10.5, []),
        (NUMBER, None, []),
        (NUMBER, True, []),
        (FREE_NUMBER, -3.25, [{"number": -3.25}]),
        (FREE_NUMBER, "nan", []),
        (FREE_NUMBER, "inf", []),
        (DATE, "2026-01-31", [{"datetime": "2026-01-31"}]),
        (DATE, "2026-01-31T10:30:00Z", [{"datetime": "2026-01-31"}]),
        (DATE, "2026-02-30", []),
        (DATE, "1999-12-31", []),
        (DATE, "tomorrow", []),
        (YEAR, "2024", [{"datetime": "2024-01-01"}]),
        (YEAR, 2024, [{"datetime": "2024-01-01"}]),
        (YEAR, "1989", []),
        (TIME, "14:30", [{"datetime": "14:30"}]),
        (TIME, "25:00", []),
        (MOMENT, "2026-01-31T14:30", [{"datetime": "2026-01-31T14:30"}]),
        (MOMENT, "2026-01-31", [{"datetime": "2026-01-31T00:00"}]),
        (GERMAN, "2026-01-31", [{"datetime": "31.01.2026"}]),
        (GERMAN, "31.01.2026", [{"datetime": "31.01.2026"}]),
        (PAIRWISE, "left", [{"selected": "left"}]),
        (PAIRWISE, "Right", [{"selected": "right"}]),
        (PAIRWISE, "both", []),
        (LABELS, [quote("Paris", "Place", 2)],
         [{"start": 33, "end": 38, "text": "Paris", "labels": ["Place"]}]),
        (
            LABELS,
            [quote("Bob"), quote("Paris", "Place", 1)],
            [
                {"start": 9, "end": 12, "text": "Bob", "labels": ["PER"]},
                {"start": 16, "end": 21, "text": "Paris", "labels": ["Place"]},
                {"start": 23, "end": 26, "text": "Bob", "labels": ["PER"]},
            ],
        ),
        (LABELS, [quote("😀 and")], [{"start": 39, "end": 44, "text": "😀 and", "labels": ["PER"]}]),
        (LABELS, [quote("Berlin", "Place"), quote("Bob", "Thing"), quote(""), quote("Bob", "PER", 3)], []),
        (LABELS, [{"quote": 3, "label": "Place"}, "Bob", None], []),
    ],
)  # fmt: skip
def test_json_values(control: str, answer: Any, values: list[Any]) -> None:
    """Real values are taken, in the shapes of Label Studio; everything else is left out."""
    assert filled(control, answer) == values


def test_a_quote_is_looked_for_as_a_whole_word_first() -> None:
    """`an` is no part of `Anna` and `and` where it stands alone."""
    control = Labels("x", (Label("Article", "Article"),))
    found = control.read([quote("an", "Article")], "Banana and an apple")
    assert [item.pick for item in found] == [(11, 13, "Article")]
    inside = control.read([quote("nan", "Article")], "Banana")
    assert [item.pick for item in inside] == [(2, 5, "Article")]


@pytest.mark.parametrize(
    ("control", "reply", "values"),
    [
        (SINGLE, "It is good.", [["g"]]),
        (TAXONOMY, "I would choose Food > Fruit > Apple.", [[["Food", "f", "Apple"]]]),
        (TAXONOMY, "Apple", [[["Food", "f", "Apple"]]]),
        (TAXONOMY, "Bread", []),
        (RATING, "x: 3/4", [3]),
        (RATING, "⭐⭐⭐", [3]),
        (RATING, "3 stars", [3]),
        (RATING, "The text names 3 people, of whom one is Bob, and nothing more than that.", []),
        (NUMBER, "**x:** 2.5", [2.5]),
        (NUMBER, "between 2 and 3", []),
        (FREE_NUMBER, "1,250", [1250]),
        (DATE, "x: 2026-01-31 (a Saturday)", ["2026-01-31"]),
        (DATE, "2026-01-31 or 2026-02-01", []),
        (TIME, "At 14:30", ["14:30"]),
        (PAIRWISE, "The left one is better.", []),
        (PAIRWISE, "x: left", ["left"]),
        (PAIRWISE, "Left", ["left"]),
    ],
)
def test_free_text(control: str, reply: str, values: list[Any]) -> None:
    """What a plain reply says of a control; in doubt nothing."""
    assert said(control, reply) == values


@pytest.mark.parametrize(
    "reply", ["Place: Paris", "- **Place**: Paris", "Paris: Place", "Paris (Place)", '1. "Paris" - Place']
)
def test_lines_name_pieces_of_the_text(reply: str) -> None:
    """Label and quote may stand in either order."""
    values = values_from_replies(config(LABELS).controls, [Reply(reply)], TEXT, form="lines")
    assert [(value.value["start"], value.value["labels"]) for value in values.values] == [
        (16, ["Place"]),
        (33, ["Place"]),
    ]


def test_labels_come_from_the_task() -> None:
    """`value="$field"`: the labels of Choices, Taxonomy and Labels stand in the task's data."""
    data = {
        "options": [{"value": "Good", "alias": "g"}, {"value": "Bad"}, "Plain", 7, None],
        "tree": [{"value": "A", "children": [{"value": "B", "alias": "b"}]}],
        "kinds": [{"value": "Person"}],
    }
    choices = '<Choices name="x" toName="text" value="$options"/>'
    assert filled(choices, "Good", data) == [{"choices": ["g"]}]
    assert filled(choices, "Plain", data) == [{"choices": ["Plain"]}]
    assert filled(choices, "Good", {}) == []
    taxonomy = '<Taxonomy name="x" toName="text" value="$tree" leafsOnly="true"/>'
    assert filled(taxonomy, ["A > B"], data) == [{"taxonomy": [["A", "b"]]}]
    labels = '<Labels name="x" toName="text" value="$kinds"/>'
    assert filled(labels, [quote("Anna", occurrence=1)], data) == [
        {"start": 0, "end": 4, "text": "Anna", "labels": ["Person"]}
    ]


ALL = (
    '<TextArea name="response" toName="text"/><TextArea name="note" toName="text"/>'
    + "".join(
        control.replace('name="x"', f'name="c{number}"')
        for number, control in enumerate(
            (SINGLE, MULTIPLE, TAXONOMY, LEAFS, RATING, NUMBER, FREE_NUMBER, DATE, PAIRWISE, LABELS)
        )
    )
)  # fmt: skip


def subschemas(schema: Json) -> Iterator[Json]:
    """The schema and all schemas in it."""
    yield schema
    for inner in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
        yield from subschemas(inner)
    if "items" in schema:
        yield from subschemas(schema["items"])


def test_the_schema_keeps_to_what_all_strict_modes_know() -> None:
    """Every property is required and named after its control, texts come first, and no keyword is exotic."""
    parsed = config(ALL)
    asked = response_format(parsed.controls)
    assert (asked["type"], asked["json_schema"]["strict"]) == ("json_schema", True)
    schema = asked["json_schema"]["schema"]
    assert list(schema["properties"])[:3] == ["response", "note", "c9"]
    assert set(schema["properties"]) == {control.name for control in parsed.controls}
    for part in subschemas(schema):
        assert set(part) <= {
            "type",
            "enum",
            "anyOf",
            "items",
            "properties",
            "required",
            "additionalProperties",
        }
        if part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False


def test_the_schema_shows_values_and_never_aliases() -> None:
    """An alias may be a number that tells a model nothing."""
    schema = json.dumps(response_format(config(ALL).controls))
    assert '"Good"' in schema
    assert '"g"' not in schema
    assert '"Food > Fruit > Apple"' in schema


def test_more_labels_than_a_schema_takes_are_plain_strings() -> None:
    """Azure takes 500 values in all; what is beyond is checked when it comes back."""
    many = "".join(f'<Choice value="label {number}"/>' for number in range(400))
    two = f'<Choices name="a" toName="text">{many}</Choices><Choices name="x" toName="text">{many}</Choices>'
    properties = response_format(config(two).controls)["json_schema"]["schema"]["properties"]
    assert len(properties["a"]["enum"]) == 400
    assert properties["x"] == {"type": "string"}
    assert filled(two, "label 399") == [{"choices": ["label 399"]}]
    assert filled(two, "label 400") == []


def names(control: str, fill: str = "default") -> set[str]:
    """The controls that are filled."""
    return {item.name for item in config(control, fill).controls}


def test_which_controls_are_filled() -> None:
    """The response and Choices; with the attribute `llm` or FILL=all more, and with llm="false" less."""
    marked = ALL.replace('name="c4"', 'name="c4" llm="true"')
    without = ALL.replace('name="c0"', 'name="c0" llm="false"').replace(
        '"response"', '"response" llm="False"'
    )
    assert names(ALL) == {"response", "c0", "c1"}
    assert names(marked) == {"response", "c0", "c1", "c4"}
    assert names(ALL, "all") == {"response", "note", *(f"c{number}" for number in range(10))}
    assert names(without, "all") == {"note", *(f"c{number}" for number in range(1, 10))}
    assert config(without).response == "note"


def test_what_a_person_is_to_fill_stays_empty() -> None:
    """The Taxonomy and the Rating of the response-evaluation example are filled only when asked for."""
    xml = (EXAMPLES / "response-evaluation" / "label_config.xml").read_text()
    assert [item.name for item in parse_labeling_config(xml, "prompt", "default", READABLE).controls] == [
        "response"
    ]
    everything = {item.name for item in parse_labeling_config(xml, "prompt", "all", READABLE).controls}
    assert everything == {"response", "evals", "rating"}


@pytest.mark.parametrize(
    ("control", "why"),
    [
        ('<Ranker name="x" toName="text"/>', "not supported"),
        ('<Choices name="x" toName="text" perRegion="true"><Choice value="a"/></Choices>', "regions"),
        ('<Choices name="x" toName="text" allowNested="true"><Choice value="a"/></Choices>', "allowNested"),
        ('<Taxonomy name="x" toName="text" apiUrl="https://example.com"/>', "apiUrl"),
        ('<Choices name="x" toName="text"/>', "no labels"),
        ('<Pairwise name="x" toName="text,nowhere"/>', "two objects"),
    ],
)
def test_a_control_that_cannot_be_filled_is_named(control: str, why: str) -> None:
    """It is left alone, and the reason is there for the log."""
    parsed = config(f'<TextArea name="response" toName="text"/>{control}')
    assert [item.name for item in parsed.controls] == ["response"]
    [reason] = parsed.left_alone
    assert " x: " in reason
    assert why in reason


def test_labels_are_filled_on_a_text_only() -> None:
    """Other objects count their offsets otherwise."""
    xml = LABELS.replace('toName="text"', 'toName="page"')
    page = '<View><HyperText name="page" value="$page"/><TextArea name="prompt" toName="page"/>'
    with pytest.raises(LabelingConfigError, match="nothing to fill"):
        parse_labeling_config(f"{page}{xml}</View>", "prompt", "all", READABLE)


answers = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6)
    | st.sampled_from(["Good", "Bad", "Food > Bread", "left", "2026-01-31", "Anna", "Person", "occurrence"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["quote", "label", "occurrence", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(
    st.sampled_from(
        [SINGLE, MULTIPLE, TAXONOMY, LEAFS, RATING, NUMBER, DATE, TIME, MOMENT, PAIRWISE, LABELS]
    ),
    answers,
)
def test_any_json_gives_a_valid_prediction(control: str, answer: Any) -> None:
    """label-studio-sdk finds nothing wrong, and neither do the rules that it does not check."""
    for value in filled(control, answer):
        if "start" in value:
            assert TEXT[value["start"] : value["end"]] == value["text"] != ""
        if "rating" in value:
            assert 1 <= value["rating"] <= 4
        if "number" in value:
            assert 1 <= value["number"] <= 10
        if control == SINGLE:
            assert len(value["choices"]) == 1


@pytest.mark.parametrize("form", ["json", "lines"])
def test_every_kind_of_control_is_described_to_the_model(form: str) -> None:
    """All kinds have their part in the template, with headers, hints and labels, and without aliases."""
    hinted = SINGLE.replace('value="Bad"', 'value="Bad" hint="when it is {bad}"').replace('"x"', '"h"')
    more = "".join(item.replace('"x"', f'"d{number}"') for number, item in enumerate((TIME, MOMENT)))
    controls = config(f'{ALL}{more}<Header value="$question"/>{hinted}').controls
    assert {type(control) for control in controls} == set(Control.__subclasses__())
    message = controls_message(wording(controls, form), controls, {"question": "Is it well done?"})
    assert message.role == "system"
    for said in ("Is it well done?", "Bad (when it is {bad})", "Apple", "1 to 4", "in steps of 0.5", "Place"):
        assert said in message.content
    assert "PER" not in message.content
