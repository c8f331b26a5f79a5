"""Every kind of control: its schema, what it takes of an answer, and regions that Label Studio accepts."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.asking.prompts import controls_message, wording
from llm_backend.asking.shape import Shapes, shape_from_json
from llm_backend.errors import LabelingConfigError
from llm_backend.label_studio.regions import build_prediction
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.controls import CONTROLS, Control, Finding, Form, Label, Pick
from llm_backend.labeling.controls.base import last_of
from llm_backend.labeling.controls.free_text import own_line
from llm_backend.labeling.controls.labels import Labels
from llm_backend.labeling.replies import values_from_replies
from llm_backend.labeling.schema import response_format
from llm_backend.labeling.tag import Tag
from llm_backend.reading import readable
from llm_backend.settings import load_settings
from llm_backend.values import ControlValue, ControlValues, Json, Reply

ROOT = Path(__file__).resolve().parent.parent
TEXT = "Anna met Bob in Paris. Bob likes Paris 😀 and Anna-Lena."
TREE = (
    '<Choice value="Food"><Choice value="Fruit" alias="f"><Choice value="Apple"/></Choice>'
    '<Choice value="Bread"/></Choice><Choice value="Other"><Choice value="Bread"/></Choice>'
)


def view(control: str) -> str:
    """The XML of a labeling config with a prompt and this control."""
    return (
        '<View><Text name="text" value="$text"/><Text name="second" value="$second"/>'
        f'<TextArea name="prompt" toName="text"/>{control}</View>'
    )


def config(control: str, fill: str = "all") -> LabelingConfig:
    """A labeling config with a prompt and this control."""
    return parse_labeling_config(view(control), "prompt", fill, readable())


def stored(control: str) -> tuple[Control, ...]:
    """The controls of a shape that a job has stored."""
    shapes = Shapes(load_settings({"OPENAI_API_KEY": "sk-test", "FILL": "all"}, env_file=None))
    return shape_from_json(shapes.shape(view(control), {}, "p").as_json()).controls


def predicted(values: ControlValues) -> Json:
    """The prediction that these values make."""
    return build_prediction("prompt", "text", "p", values, "m")


def filled(control: str, answer: Any, data: Json | None = None) -> list[Any]:
    """The values that a JSON answer for the one control `x` gives; the prediction is valid."""
    parsed = config(control)
    controls = tuple(item.for_task(data or {}, lambda source: source.name) for item in parsed.controls)
    reply = Reply(json.dumps({"x": answer}))
    values = values_from_replies(controls, [reply], TEXT, form="json")
    prediction = predicted(values)
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
    xml = (ROOT / "examples" / "response-evaluation" / "label_config.xml").read_text()
    assert [item.name for item in parse_labeling_config(xml, "prompt", "default", readable()).controls] == [
        "response"
    ]
    everything = {item.name for item in parse_labeling_config(xml, "prompt", "all", readable()).controls}
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
        parse_labeling_config(f"{page}{xml}</View>", "prompt", "all", readable())


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


def test_the_description_of_every_kind_stays_what_it_is() -> None:
    """To the byte, with headers, hints and labels, and without aliases; a job can store every kind."""
    hinted = SINGLE.replace('value="Bad"', 'value="Bad" hint="when it is {bad}"').replace('"x"', '"h"')
    more = "".join(item.replace('"x"', f'"d{number}"') for number, item in enumerate((TIME, MOMENT)))
    described = config(f'{ALL}{more}<Header value="$question"/>{hinted}').controls
    assert {type(control) for control in described} == set(CONTROLS.values())
    assert stored(ALL) == config(ALL).controls
    controls = [control.for_task({}, lambda source: f"the {source.name} {{x}}") for control in described]
    forms: tuple[Form, ...] = ("json", "lines")
    for form in forms:
        message = controls_message(wording(controls, form), controls, {"question": "Is it well done?"})
        expected = (ROOT / "tests" / "descriptions" / f"{form}.txt").read_text()
        assert (message.role, message.content) == ("system", expected)


# A control of each kind with values of it, as `from_regions` gives them.
VALUES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "textarea": (
        '<TextArea name="x" toName="text"/>',
        st.lists(st.text().filter(str.strip), max_size=3),
    ),
    "choices": (MULTIPLE, st.lists(st.sampled_from(["g", "Bad"]), unique=True).map(sorted)),
    "taxonomy": (
        TAXONOMY,
        st.lists(
            st.sampled_from([["Food"], ["Food", "f"], ["Food", "f", "Apple"], ["Other"]]), unique_by=tuple
        ).map(sorted),
    ),
    "rating": (RATING, st.none() | st.integers(1, 4)),
    "number": (NUMBER, st.none() | st.integers(2, 20).map(lambda halves: halves / 2)),
    "datetime": (MOMENT, st.none() | st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M"))),
    "pairwise": (PAIRWISE, st.sampled_from([None, "left", "right"])),
    "labels": (
        LABELS,
        st.lists(
            st.tuples(st.integers(0, 9), st.integers(10, len(TEXT)), st.sampled_from(["PER", "Place"])),
            unique=True,
        ).map(lambda pieces: [list(piece) for piece in sorted(pieces)]),
    ),
}


def regions_of(control: Control, value: Any) -> list[Json]:
    """The regions of a prediction that fills the control with this value, among those of others."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    picks = [tuple(item) if isinstance(item, list) else item for item in items]
    values = [
        ControlValue(control.name, control.kind, made) for made, _ in control.region_values(picks, TEXT)
    ]
    regions: list[Json] = predicted(ControlValues(tuple(values)))["result"]
    return regions


@settings(deadline=None)
@given(st.data())
def test_regions_give_back_the_values_that_they_were_made_from(data: st.DataObject) -> None:
    """For every registered kind; a value agrees with itself, and with another as that does with it."""
    assert set(VALUES) == set(CONTROLS)
    for xml, strategy in VALUES.values():
        [control] = config(xml).controls
        one, other = data.draw(strategy), data.draw(strategy)
        assert control.from_regions(regions_of(control, one)) == one
        assert control.agrees(one, one)
        assert control.agrees(one, other) == control.agrees(other, one)


malformed = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            "text choices taxonomy rating number datetime selected labels start end".split()  # noqa: SIM905
        ),
        inner,
        max_size=4,
    ),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(malformed, max_size=3), st.sampled_from(sorted(VALUES)))
def test_malformed_regions_break_nothing(values: list[Any], kind: str) -> None:
    """Whatever stands in a region, it says nothing or something that can be compared and stored."""
    [control] = config(VALUES[kind][0]).controls
    said = control.from_regions([*values, *({"from_name": "x", "value": value} for value in values)])
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert control.agrees(said, said)
    empty = control.from_regions([])
    assert empty in (None, [])
    assert control.agrees(said, empty) == control.agrees(empty, said)


@pytest.mark.parametrize(
    ("xml", "one", "other", "same"),
    [
        (VALUES["textarea"][0], ["Two  words\n"], ["Two words"], True),
        (VALUES["textarea"][0], ["Two words"], ["two words"], False),
        (MULTIPLE, ["Bad", "g"], ["Bad"], False),
        (NUMBER, 0.1 + 0.2, 0.3, True),
        (NUMBER, 0.3, None, False),
        (RATING, 3, 4, False),
        (MOMENT, "2026-01-31", "2026-01-31T00:00", True),
        (MOMENT, "2026-01-31", "2026-01-30", False),
        (GERMAN, "31.01.2026", "2026-01-31", True),
        (TIME, "9:30", "09:30", True),
        (TIME, "9:30", None, False),
        (DATE, "soon", "later", False),
    ],
)
def test_what_means_the_same_agrees(xml: str, one: Any, other: Any, same: bool) -> None:
    """How a value is written does not matter, as long as it says the same."""
    [control] = config(xml).controls
    assert control.agrees(one, other) == same


def test_of_several_submissions_the_last_one_counts() -> None:
    """Where only one value can be; no stars and an empty date say nothing."""
    [rating], [moment] = config(RATING).controls, config(MOMENT).controls
    regions = [
        {"from_name": "x", "value": value} for value in ({"rating": 2}, {"rating": 3}, {"datetime": ""})
    ]
    assert rating.from_regions(regions) == 3
    assert rating.from_regions([*regions, {"from_name": "x", "value": {"rating": 0}}]) is None
    assert moment.from_regions(regions) is None


@pytest.mark.parametrize(
    "control",
    [
        RATING.replace("4", "nan"),
        RATING.replace("4", "1e9"),
        NUMBER.replace("10", "inf"),
        NUMBER.replace("0.5", "1e-320"),
        NUMBER.replace("0.5", "-1"),
        GERMAN.replace("%m", "%d"),
    ],
)
def test_odd_attributes_break_nothing(control: str) -> None:
    """What no number or format should be gives a schema of a usual size, and a reply is still read."""
    [parsed] = config(control).controls
    assert len(json.dumps(response_format([parsed]))) < 2000
    assert parsed.fields() is not None
    parsed.read("3", TEXT)


def test_stars_that_cannot_be_given_are_left_alone() -> None:
    """No page shows fewer stars than one."""
    parsed = config(SINGLE + RATING.replace("4", "-2").replace('"x"', '"y"'))
    assert [control.name for control in parsed.controls] == ["x"]
    assert "maxRating" in parsed.left_alone[0]


@dataclass(frozen=True)
class Dial(Control):
    """A control that Label Studio does not have: one of a few colors."""

    colors: tuple[str, ...]

    kind: ClassVar[str] = "dial"

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        """The colors stand in an attribute."""
        return cls(tag.name, tuple(tag.text("colors").split()), header=tag.header)

    @property
    def wanted(self) -> str:
        """All colors."""
        return "one of " + " ".join(self.colors)

    def schema(self, *, enumerated: bool) -> Json:
        """A string."""
        return {"type": "string"}

    def read(self, raw: Any, text: str) -> list[Finding]:
        """A color."""
        return [Finding(raw)] if raw in self.colors else []

    def match(self, reply: str, text: str) -> list[Finding]:
        """A color in a line of its own."""
        return self.read(own_line(reply, self.name), text)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        """A region for each."""
        yield from (({"color": pick}, [pick]) for pick in picks)

    def from_values(self, values: Iterable[Json]) -> Any:
        """The last color."""
        return last_of(values, "color", str)


@pytest.mark.parametrize(
    ("form", "reply"), [("json", '{"x": "red"}'), ("lines", "Here you are.\nx: red"), ("json", "x: red")]
)
def test_a_kind_is_one_class_and_one_registration(
    monkeypatch: pytest.MonkeyPatch, form: Form, reply: str
) -> None:
    """From the labeling config over schema, message and reply to the region and back."""
    monkeypatch.setitem(CONTROLS, Dial.kind, Dial)
    dial = '<Header value="Which?"/><Dial name="x" toName="text" colors="red blue"/>'
    parsed = config(dial)
    assert parsed.left_alone == ()
    [control] = parsed.controls
    assert stored(dial) == (control,)
    assert list(response_format([control])["json_schema"]["schema"]["properties"]) == ["x"]
    message = controls_message(wording([control], form), [control], {})
    assert '\n"x" (Which?): one of red blue\n' in message.content
    values = values_from_replies([control], [Reply(reply)], "", form=form)
    [_, region] = predicted(values)["result"]
    assert (region["from_name"], region["type"], region["value"]) == ("x", "dial", {"color": "red"})
    assert control.from_regions([region]) == "red"
    assert control.agrees("red", "red")
    assert not control.agrees("red", "blue")
