"""Keys of completions as version 1 of the database has them, so that what was paid for then still counts.

Version 1 made its keys of lists of fields, which stand here as they were.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_backend.asking.prompts import sections_of
from llm_backend.asking.question import Question, keys_of
from llm_backend.labeling.controls import Control
from llm_backend.reading.tags.image import ImageOptions

# The fields of each kind of control, in the order and under the names that they had.
_FIELDS = {
    "textarea": ("is_response",),
    "choices": ("labels", "multiple", "labels_from"),
    "taxonomy": ("nodes", "leafs_only", "labels_from"),
    "rating": ("max_rating",),
    "number": ("minimum", "maximum", "step"),
    "datetime": ("only", "format", "minimum", "maximum"),
    "pairwise": ("sources", "left", "right"),
    "labels": ("labels", "labels_from"),
}
_ASKED = ("model", "messages", "temperature", "response_format", "logprobs")


def keys_of_version_1(question: Question) -> Iterator[tuple[str, ...]]:
    """The keys that the question may have had, one for each reply.

    Version 1 counted what a shape leaves out where it does not matter: DIALOGUE_FORMAT, and whether the
    prompt was the default prompt.
    """
    shape, model = question.shape, question.shape.model
    dialogue_formats = [shape.reading] if isinstance(shape.reading, str) else ["text", "messages"]
    is_default = [shape.prompt_is_template] if shape.template is not None else [False, True]
    asked = [getattr(question.request, name) for name in _ASKED]
    for dialogue_format in dialogue_formats:
        for default in is_default:
            shapes = [
                model.provider,
                model.base_url,
                model.deployment_name,
                model.api_version,
                model.file,
                model.name,
                shape.temperature,
                shape.num_responses,
                shape.prompt,
                default,
                shape.template,
                dialogue_format,
                _digest_of_config(question),
                *_image_options(question),
                shape.form,
                sorted(_sections().items()) if shape.form != "plain" else None,
            ]
            fingerprint = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
            yield keys_of([fingerprint, asked], question.request.num_replies)


def _digest_of_config(question: Question) -> str:
    shape = question.shape
    controls = [[control.kind, _fields_of(control)] for control in shape.controls]
    responses = (control.name for control in shape.controls if getattr(control, "is_response", False))
    shapes = [shape.source.tag, shape.source.value, next(responses, None), controls]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


def _fields_of(control: Control) -> dict[str, Any]:
    values = asdict(control)
    values["sources"] = values.get("sides")
    return {name: values[name] for name in ("name", "header", *_FIELDS.get(control.kind, ()))}


def _image_options(question: Question) -> tuple[Any, ...]:
    """Where the model had refused pictures, version 1 asked as with IMAGE_INPUT=ocr."""
    reading = question.shape.reading
    if not isinstance(reading, ImageOptions):
        return ()
    refused = reading.image_input == "auto" and question.without_pictures is None
    languages = reading.ocr_languages or ("eng",)
    return "ocr" if refused else reading.image_input, languages, reading.max_side, reading.max_pages


@functools.cache
def _sections() -> dict[str, str]:
    return sections_of((Path(__file__).parent / "version_1_controls.txt").read_text(encoding="utf-8"))
