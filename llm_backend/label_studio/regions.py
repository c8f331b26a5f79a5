"""Values → regions → prediction, in the shapes of Label Studio's protocol. Plain functions, no I/O.

`prompt_name` is the name of the prompt's TextArea, `to_name` that of the object that it points to.
"""

import copy
import uuid
from collections.abc import Iterable, Sequence

from llm_backend.labeling.controls import Control
from llm_backend.values import ControlValue, ControlValues, Json


def build_prediction(
    prompt_name: str, to_name: str, prompt: str, values: ControlValues, model_version: str
) -> Json:
    """A prediction: a region for the prompt that was used, and one for each control that has a value."""
    regions = _regions([_text(prompt_name, prompt), *values.values], to_name)
    score = {} if values.score is None else {"score": values.score}
    return {"result": regions, "model_version": model_version} | score


def values_of(controls: Sequence[Control], regions: Sequence[Json]) -> Json:
    """What regions say, by the name of the control: what was proposed, or what a person made of it."""
    return {control.name: control.from_regions(regions) for control in controls}


def empty_prediction() -> Json:
    """A prediction that fills nothing: the interactive answer when there is no prompt."""
    return {"result": []}


def error_prediction(
    prompt_name: str, to_name: str, prompt: str | None, response_name: str, reason: str
) -> Json:
    """A prediction that shows a person, in the response box, why there is none: Label Studio shows no error.

    It ticks no label, and it is only for the person who asked: it has no version and must not be stored.
    """
    texts = [_text(prompt_name, prompt)] if prompt else []
    return {"result": _regions([*texts, _text(response_name, f"\u26a0 {reason}")], to_name)}


def clear_stale(controls: Sequence[Control], to_name: str, prediction: Json, context: Json) -> None:
    """Empties the controls that the context shows and the prediction does not fill.

    Label Studio replaces only controls for which a region comes: an earlier label would stay ticked. Pieces
    of text of an earlier answer do stay: its page only adds to them, does not say which there are, and takes
    over nothing at all when a new one has the id of one that is there.
    """
    filled = {region["from_name"] for region in prediction["result"]}
    shown = [region.get("from_name") for region in context["result"] if isinstance(region, dict)]
    emptied = [
        ControlValue(control.name, control.kind, copy.deepcopy(control.empty))
        for control in controls
        if control.empty is not None and control.name in shown and control.name not in filled
    ]
    prediction["result"] += _regions(emptied, to_name)


def _text(name: str, text: str) -> ControlValue:
    return ControlValue(name, "textarea", {"text": [text]})


def _regions(values: Iterable[ControlValue], to_name: str) -> list[Json]:
    regions = []
    for value in values:
        region = {
            "id": uuid.uuid4().hex[:10],
            "from_name": value.name,
            "to_name": to_name,
            "type": value.kind,
            "value": value.value,
        }
        regions.append(region if value.score is None else region | {"score": value.score})
    return regions
