"""Values → regions → prediction, in the shapes of Label Studio's protocol. Plain functions, no I/O."""

import uuid
from collections.abc import Sequence

from llm_backend.labeling.config import LabelingConfig
from llm_backend.labeling.controls import Control
from llm_backend.values import ControlValue, ControlValues, Json

# Values that the page takes for "nothing"; the other kinds of control have none.
_EMPTY: dict[str, Json] = {"choices": {"choices": []}, "taxonomy": {"taxonomy": []}, "rating": {"rating": 0}}


def build_prediction(
    prompt_name: str, to_name: str, prompt: str, values: ControlValues, model_version: str
) -> Json:
    """A prediction: a region for the prompt that was used, and one for each control that has a value."""
    regions = [_region(to_name, ControlValue(prompt_name, "textarea", {"text": [prompt]}))]
    regions += [_region(to_name, value) for value in values.values]
    score = {} if values.score is None else {"score": values.score}
    return {"result": regions, "model_version": model_version} | score


def values_of(controls: Sequence[Control], regions: Sequence[Json]) -> Json:
    """What regions say, by the name of the control: what was proposed, or what a person made of it."""
    return {
        control.name: [region["value"] for region in regions if region.get("from_name") == control.name]
        for control in controls
    }


def empty_prediction() -> Json:
    """A prediction that fills nothing: the interactive answer when there is no prompt."""
    return {"result": []}


def error_prediction(config: LabelingConfig, prompt: str | None, reason: str) -> Json:
    """A prediction that shows a person, in the response box, why there is none: Label Studio shows no error.

    It ticks no label, and it is only for the person who asked: it has no version and must not be stored. The
    config must have a response box.
    """
    texts = {config.prompt: prompt, config.response or "": f"\u26a0 {reason}"}
    values = [ControlValue(name, "textarea", {"text": [text]}) for name, text in texts.items() if text]
    return {"result": [_region(config.source.name, value) for value in values]}


def clear_stale(config: LabelingConfig, prediction: Json, context: Json) -> None:
    """Empties the controls that the context shows and the prediction does not fill.

    Label Studio replaces only controls for which a region comes: an earlier label would stay ticked. Pieces
    of text of an earlier answer do stay: its page only adds to them, does not say which there are, and takes
    over nothing at all when a new one has the id of one that is there.
    """
    filled = {region["from_name"] for region in prediction["result"]}
    shown = [region.get("from_name") for region in context["result"] if isinstance(region, dict)]
    prediction["result"] += [
        _region(config.source.name, ControlValue(control.name, control.kind, dict(_EMPTY[control.kind])))
        for control in config.controls
        if control.name in shown and control.name not in filled and control.kind in _EMPTY
    ]


def _region(to_name: str, value: ControlValue) -> Json:
    region = {
        "id": uuid.uuid4().hex[:10],
        "from_name": value.name,
        "to_name": to_name,
        "type": value.kind,
        "value": value.value,
    }
    return region if value.score is None else region | {"score": value.score}
