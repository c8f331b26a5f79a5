"""Replies → values: JSON that was asked for, what comes instead, majorities and probabilities."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.labeling.controls import Control, Form, Label
from llm_backend.labeling.controls.choices import Choices
from llm_backend.labeling.controls.rating import Rating
from llm_backend.labeling.controls.textarea import TextArea
from llm_backend.labeling.replies import values_from_replies
from llm_backend.values import ControlValues, Reply

RESPONSE = TextArea("response", is_response=True)
NOTE = TextArea("note")
TONE = Choices("tone", (Label("Good", "1"), Label("Very Good", "2"), Label("Bad", "3")), multiple=False)
TOPICS = Choices("topics", tuple(Label(name, name) for name in ("Food", "Noise", "Price")), multiple=True)
STARS = Rating("stars", 5)
CONTROLS: tuple[Control, ...] = (RESPONSE, TONE, TOPICS, STARS)


def read(*texts: str, controls: tuple[Control, ...] = CONTROLS, form: Form = "json") -> ControlValues:
    """What the controls get from replies without logprobs."""
    return values_from_replies(controls, [Reply(text) for text in texts], "", form=form)


def by_name(values: ControlValues) -> dict[str, object]:
    """The plain value of each control."""
    return {value.name: next(iter(value.value.values())) for value in values.values}


def scores(values: ControlValues) -> dict[str, float | None]:
    """The score of each control that has a value."""
    return {value.name: value.score for value in values.values}


ASKED_FOR = '{"response": "Fine food.", "tone": "Very Good", "topics": ["Price", "Food"], "stars": 4}'


@pytest.mark.parametrize(
    "reply",
    [
        ASKED_FOR,
        f"```json\n{ASKED_FOR}\n```",
        f"Here you are:\n{ASKED_FOR}\nAnything else?",
        ASKED_FOR.replace('"tone"', '"Tone"').replace("Very Good", "very good"),
        ASKED_FOR.replace('"Very Good"', '["Very Good"]'),
        ASKED_FOR.replace('"Very Good"', '"2"'),
        ASKED_FOR.replace('["Price", "Food"]', '"Price, Food"'),
        ASKED_FOR.replace("4}", '"4"}'),
        ASKED_FOR.replace("{", "{\n  ").replace(", ", ",\n  "),
    ],
)
def test_json_fills_every_control(reply: str) -> None:
    """Values are those of the labeling config and aliases are stored, also from JSON that is a little off."""
    assert by_name(read(reply)) == {
        "response": ["Fine food."],
        "tone": ["2"],
        "topics": ["Food", "Price"],
        "stars": 4,
    }
    assert read(reply).score is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("It is very good.", {"response": ["It is very good."], "tone": ["2"]}),
        ('{"response": "It is bad"}', {"response": ["It is bad"], "tone": ["3"]}),
        ('{"answer": "x"}', {"response": ['{"answer": "x"}']}),
        ('{"response": "Long and wi', {"response": ["Long and wi"]}),
        ('{"response": "x", "tone": "Goo', {"response": ["x"]}),
        ('{"response": "x", "topics": ["Food", "Noi', {"response": ["x"], "topics": ["Food"]}),
        ('{"response": "x", "tone": "Splendid", "stars": 9}', {"response": ["x"]}),
        ('{"response": "x", "tone": null, "topics": [], "stars": 2.5}', {"response": ["x"]}),
        ('{"response": "Good", "tone": "Bad"}', {"response": ["Good"], "tone": ["3"]}),
        ('{"response": "x", "tone": ["Good", "Bad"]}', {"response": ["x"]}),
        ('{"response": "x", "tone": {"a": 1}, "stars": true}', {"response": ["x"]}),
        ("I cannot tell whether it is good.", {"response": ["I cannot tell whether it is good."]}),
        ("[[[[", {"response": ["[[[["]}),
        ("{" * 5000, {"response": ["{" * 5000]}),
        ("[" * 9999, {"response": ["[" * 9999]}),
        ('{"response": "x", "stars": 1%s}' % ("0" * 400), {"response": ["x"]}),
    ],
)
def test_what_is_not_the_json_asked_for(reply: str, expected: dict[str, object]) -> None:
    """It is served as a plain reply would be; a value that is not in the config, or cut off, is none."""
    assert by_name(read(reply)) == expected


@pytest.mark.parametrize("replies", [[], [""], [" \n", ""]])
def test_no_reply_fills_nothing(replies: list[str]) -> None:
    """Without a text there is neither a text nor a label nor a score."""
    assert read(*replies) == ControlValues()


def test_json_that_nobody_asked_for_is_the_response() -> None:
    """A prompt may ask for JSON of its own: the response shows it, and labels in it count."""
    reply = '{"response": "short", "tone": "Bad"}'
    assert by_name(read(reply, form="plain")) == {"response": [reply], "tone": ["3"]}


def test_lines_answer_for_controls_and_are_no_part_of_the_response() -> None:
    """Without JSON, each control has its line."""
    reply = "The food is fine.\ntone: Good\ntopics: Food, Price\n**stars**: 3/5\nnote: None at all"
    assert by_name(read(reply, controls=(*CONTROLS, NOTE), form="lines")) == {
        "response": ["The food is fine."],
        "tone": ["1"],
        "topics": ["Food", "Price"],
        "stars": 3,
        "note": ["None at all"],
    }


def test_several_replies_are_several_texts_in_order() -> None:
    """So that a person can choose."""
    replies = [json.dumps({"response": text, "note": text.upper()}) for text in ("a", "b", "c")]
    values = by_name(read(*replies, controls=(RESPONSE, NOTE)))
    assert values == {"response": ["a", "b", "c"], "note": ["A", "B", "C"]}


@pytest.mark.parametrize(
    ("tones", "label", "score", "certainty"),
    [
        (["Good", "Good", "Bad"], ["1"], 0.6667, 0.6667),
        (["Good", "Good", "Good"], ["1"], 1.0, 1.0),
        (["Good", "Bad"], None, None, 0.5),
        (["Good", "Bad", "Very Good"], None, None, 0.3333),
        (["Bad", None, None], None, None, 0.6667),
        ([None, None, None], None, None, None),
        (["Good", "Good", None, None, "Bad"], None, None, 0.4),
    ],
)
def test_the_majority_labels_a_single_choice(
    tones: list[str | None], label: list[str] | None, score: float | None, certainty: float | None
) -> None:
    """A label that more than half of the replies name, with its share; else none, and a low certainty."""
    values = read(*(json.dumps({"tone": tone}) for tone in tones), controls=(TONE,))
    assert by_name(values).get("tone") == label
    assert scores(values).get("tone") == score
    assert values.score == certainty


def test_each_label_of_a_multiple_choice_has_its_own_majority() -> None:
    """The region is as certain as its least certain label, the prediction as any label at all."""
    votes = [["Food", "Price"], ["Food"], ["Food", "Price"], ["Food", "Price", "Noise"], ["Noise", "Food"]]
    values = read(*(json.dumps({"topics": vote}) for vote in votes), controls=(TOPICS,))
    assert by_name(values) == {"topics": ["Food", "Price"]}
    assert scores(values) == {"topics": 0.6}
    assert values.score == 0.6


def tokens(*pairs: tuple[str, float]) -> Reply:
    """A reply of these tokens with these probabilities."""
    return Reply(
        "".join(token for token, _ in pairs),
        tuple((token, math.log(probability)) for token, probability in pairs),
    )


def test_a_label_is_as_probable_as_its_tokens() -> None:
    """The tokens of the value count, and those around it do not."""
    reply = tokens(('{"', 0.1), ("tone", 0.2), ('": "', 0.3), ("B", 0.5), ("ad", 0.8), ('"}', 0.1))
    values = values_from_replies((TONE,), [reply], "", form="json")
    assert (by_name(values), scores(values), values.score) == ({"tone": ["3"]}, {"tone": 0.4}, 0.4)


def test_where_a_longer_label_begins_the_same_the_closing_quote_decides() -> None:
    """`Not` and `Not Sure` differ in what follows `Not`."""
    control = Choices("sure", (Label("Not", "Not"), Label("Not Sure", "Not Sure")), multiple=False)
    reply = tokens(('{"sure": "', 1.0), ("Not", 0.5), ('"}', 0.5))
    assert values_from_replies((control,), [reply], "", form="json").score == 0.25


def test_the_least_certain_of_all_controls_is_the_score() -> None:
    """Label Studio sorts tasks by it: each region carries its own."""
    reply = tokens(
        ('{"topics": ["', 1.0), ("Food", 0.9), ('", "', 1.0), ("Price", 0.6), ('"], "stars": ', 1.0),
        ("4", 0.7), ("}", 1.0),
    )  # fmt: skip
    values = values_from_replies((TOPICS, STARS), [reply], "", form="json")
    assert scores(values) == {"topics": 0.6, "stars": 0.7}
    assert values.score == 0.6


@pytest.mark.parametrize(
    "reply",
    [
        Reply('{"tone": "Bad"}'),
        Reply('{"tone": "Bad"}', (("something else", -0.1),)),
        Reply("Bad", (("Bad", -0.1),)),
    ],
)
def test_without_fitting_tokens_there_is_no_score(reply: Reply) -> None:
    """No logprobs, tokens of another text, and labels matched in free text have no score at all."""
    values = values_from_replies((TONE,), [reply], "", form="json")
    assert by_name(values) == {"tone": ["3"]}
    assert (scores(values), values.score) == ({"tone": None}, None)


def test_thoughts_before_the_json_do_not_shift_the_tokens() -> None:
    """What was cut from the text is still among its tokens."""
    reply = tokens(("<think>Bad?</think>", 0.1), ('{"tone": "', 1.0), ("Bad", 0.5), ('"}', 1.0))
    cut = Reply('{"tone": "Bad"}', reply.token_logprobs)
    assert values_from_replies((TONE,), [cut], "", form="json").score == 0.5


pieces = st.lists(
    st.sampled_from(
        ['{"', "response", '": "', "tone", "Good", '"', "}", "[", "]", ",", "\\", "\\u12", "4", "topics"]
    )
    | st.text(max_size=3)
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(st.lists(pieces, max_size=4), st.sampled_from(["json", "lines", "plain"]))
def test_any_reply_gives_values_of_the_config(replies: list[str], form: Form) -> None:
    """Whatever comes: labels that exist, stars in range, scores between 0 and 1, and never an error."""
    values = read(*replies, form=form)
    found = by_name(values)
    assert set(found.get("tone", [])) <= {"1", "2", "3"}  # type: ignore[call-overload]
    assert set(found.get("topics", [])) <= {"Food", "Noise", "Price"}  # type: ignore[call-overload]
    assert found.get("stars", 1) in range(1, 6)
    assert all(value.score is None or 0 <= value.score <= 1 for value in values.values)
