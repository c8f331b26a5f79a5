"""Predictions in the shape that Label Studio takes, checked by label-studio-sdk itself."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.label_studio.regions import build_prediction, clear_stale, empty_prediction
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.reading import readable
from llm_backend.values import ControlValue, ControlValues, Json
from tests.conftest import CLASSIFICATION

CONFIG = parse_labeling_config(CLASSIFICATION, "prompt", "default", readable())
ONLY_CHOICES = parse_labeling_config(
    '<View><Text name="text" value="$text"/><TextArea name="prompt" toName="text"/>'
    '<Choices name="sentiment" toName="text"><Choice value="Good" alias="1"/><Choice value="Bad"/></Choices>'
    "</View>",
    "prompt",
    "default",
    readable(),
)


def built(
    config: LabelingConfig, prompt: str, texts: tuple[str, ...], choices: Mapping[str, tuple[str, ...]]
) -> Json:
    """A prediction that label-studio-sdk has found valid."""
    values = (
        [ControlValue("response", "textarea", {"text": list(texts)})] if texts and config.response else []
    )
    values += [
        ControlValue(name, "choices", {"choices": list(labels)}) for name, labels in choices.items() if labels
    ]
    prediction = build_prediction(
        config.prompt, config.source.name, prompt, ControlValues(tuple(values)), "m-1"
    )
    assert config.interface.validate_prediction(prediction, return_errors=True) == []
    return prediction


def values_by_control(prediction: Json) -> dict[str, Json]:
    """The value of each region by the control it is for."""
    return {region["from_name"]: region["value"] for region in prediction["result"]}


def test_all_controls_are_filled() -> None:
    """The prompt that was used, all replies in order, and the labels: one region each."""
    prediction = built(CONFIG, "Sarcastic?", ("Yes", "No"), {"sentiment": ("Sarcastic",)})
    assert values_by_control(prediction) == {
        "prompt": {"text": ["Sarcastic?"]},
        "response": {"text": ["Yes", "No"]},
        "sentiment": {"choices": ["Sarcastic"]},
    }
    assert prediction["model_version"] == "m-1"


def test_regions_have_the_protocol_s_fields() -> None:
    """Each region names its control, its object and its type, and has an id of its own."""
    prediction = built(CONFIG, "p", ("r",), {"sentiment": ("Sarcastic", "Not Sarcastic")})
    regions = prediction["result"]
    assert [region["type"] for region in regions] == ["textarea", "textarea", "choices"]
    assert {region["to_name"] for region in regions} == {"text"}
    assert len({region["id"] for region in regions}) == len(regions)
    assert all(set(region) == {"id", "from_name", "to_name", "type", "value"} for region in regions)


@pytest.mark.parametrize(
    ("texts", "choices", "controls"),
    [
        ((), {}, ["prompt"]),
        ((), {"sentiment": ()}, ["prompt"]),
        (("r",), {"sentiment": ()}, ["prompt", "response"]),
        ((), {"sentiment": ("Sarcastic",)}, ["prompt", "sentiment"]),
    ],
)
def test_a_control_without_a_value_has_no_region(
    texts: tuple[str, ...], choices: dict[str, tuple[str, ...]], controls: list[str]
) -> None:
    """Nothing to say leaves a control alone; the prompt's region is always there."""
    assert list(values_by_control(built(CONFIG, "p", texts, choices))) == controls


def test_replies_without_a_response_control_go_nowhere() -> None:
    """Where only choices are to be filled, texts are left out and an alias is what is stored."""
    prediction = built(ONLY_CHOICES, "p", ("Good",), {"sentiment": ("1",)})
    assert values_by_control(prediction) == {"prompt": {"text": ["p"]}, "sentiment": {"choices": ["1"]}}


def test_the_empty_prediction_fills_nothing() -> None:
    """With no prompt at all the interactive answer is an object with an empty result."""
    prediction = empty_prediction()
    assert prediction == {"result": []}
    assert CONFIG.interface.validate_prediction(prediction, return_errors=True) == []


@settings(deadline=None)
@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_texts_make_a_valid_prediction(prompt: str, replies: list[str]) -> None:
    """Whatever a person or a model writes stands in the regions as it is."""
    values = values_by_control(built(CONFIG, prompt, tuple(replies), {}))
    assert values["prompt"] == {"text": [prompt]}
    assert values.get("response", {"text": []}) == {"text": replies}


def span(start: int, region_id: str = "") -> Json:
    """A region for a piece of text, as the page sends it."""
    value = {"start": start, "end": start + 1, "text": "x", "labels": ["Person"]}
    return {"id": region_id, "from_name": "entities", "to_name": "text", "type": "labels", "value": value}


def spans_at(*starts: int) -> Json:
    """A prediction of pieces of text that begin at these places."""
    values = [ControlValue("entities", "labels", span(start)["value"], 0.5) for start in starts]
    return build_prediction(CONFIG.prompt, CONFIG.source.name, "p", ControlValues(tuple(values), 0.5), "m-1")


def test_scores_are_those_of_regions_and_of_the_prediction() -> None:
    """Each region carries its own; the prompt has none."""
    prediction = spans_at(1)
    assert prediction["score"] == 0.5
    assert [region.get("score") for region in prediction["result"]] == [None, 0.5]


@pytest.mark.parametrize(("kind", "empty"), [("taxonomy", {"taxonomy": []}), ("rating", {"rating": 0})])
def test_what_an_answer_leaves_out_is_emptied(kind: str, empty: Json) -> None:
    """A path or stars of an earlier answer do not stay."""
    config = parse_labeling_config(
        '<View><Text name="text" value="$text"/><TextArea name="prompt" toName="text"/>'
        '<Taxonomy name="taxonomy" toName="text" llm="true"><Choice value="a"/></Taxonomy>'
        '<Rating name="rating" toName="text" llm="true"/></View>',
        "prompt",
        "default",
        readable(),
    )
    prediction = build_prediction(config.prompt, config.source.name, "p", ControlValues(), "m-1")
    context = {"result": [{"from_name": kind}, {"from_name": ["odd"]}, None]}
    clear_stale(config.controls, config.source.name, prediction, context)
    assert values_by_control(prediction)[kind] == empty
    assert config.interface.validate_prediction(prediction, return_errors=True) == []
