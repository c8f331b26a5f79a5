"""Values → regions → prediction, in the shapes of Label Studio's protocol. Plain functions, no I/O."""

import uuid

from llm_backend.labeling_config import LabelingConfig
from llm_backend.values import ControlValues, Json


def build_prediction(config: LabelingConfig, prompt: str, values: ControlValues, model_version: str) -> Json:
    """A prediction: a region for the prompt that was used, and one for each control that has a value."""
    regions = [_region(config, config.prompt, "textarea", {"text": [prompt]})]
    if config.response and values.texts:
        regions.append(_region(config, config.response, "textarea", {"text": list(values.texts)}))
    regions += [
        _region(config, name, "choices", {"choices": list(labels)})
        for name, labels in values.choices.items()
        if labels
    ]
    return {"result": regions, "model_version": model_version}


def empty_prediction(model_version: str) -> Json:
    """A prediction that fills nothing: the interactive answer when there is no prompt."""
    return {"result": [], "model_version": model_version}


def error_prediction(config: LabelingConfig, prompt: str, reason: str, model_version: str) -> Json:
    """A prediction that shows a person, in the response box, why there is none: Label Studio shows no error.

    It ticks no label, and it is only for the person who asked: it must not be stored.
    """
    values = ControlValues(texts=(f"\u26a0 {reason}",), choices={})
    return build_prediction(config, prompt, values, model_version)


def clear_stale(config: LabelingConfig, prediction: Json, context: Json) -> None:
    """Empties the choices that the context shows and the prediction does not fill.

    Label Studio replaces only controls for which a region comes: an earlier label would stay ticked.
    """
    filled = {region["from_name"] for region in prediction["result"]}
    shown = {region.get("from_name") for region in context["result"] if isinstance(region, dict)}
    prediction["result"] += [
        _region(config, choices.name, "choices", {"choices": []})
        for choices in config.choices
        if choices.name in shown - filled
    ]


def _region(config: LabelingConfig, control: str, kind: str, value: Json) -> Json:
    return {
        "id": uuid.uuid4().hex[:10],
        "from_name": control,
        "to_name": config.object_name,
        "type": kind,
        "value": value,
    }
