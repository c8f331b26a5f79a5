"""Controls → the JSON schema that a reply must fit. A plain function."""

import hashlib
import json
from collections.abc import Sequence

from llm_backend.labeling.controls.base import Control, object_schema
from llm_backend.values import Json

# What Azure takes: enumerated values in all, values of one enum of any length, characters of a longer one.
_MAX_VALUES = 500
_MAX_VALUES_OF_ANY_LENGTH = 250
_MAX_CHARACTERS = 7500


def response_format(controls: Sequence[Control]) -> Json:
    """The strict JSON schema of a reply that fills the controls, one property each, in their order.

    All properties are required, no others allowed. The schema uses only keywords that the strict modes of
    OpenAI and Azure, and the grammars of Ollama, llama.cpp and vLLM, document: `type`, `enum`, `anyOf`,
    `properties`, `items`. Labels beyond what Azure takes are plain strings here, and checked when they come
    back. The name tells schemas apart, because an endpoint may refuse one and take another.
    """
    left = _MAX_VALUES
    properties: Json = {}
    for control in controls:
        options = control.options()
        short = len(options) <= _MAX_VALUES_OF_ANY_LENGTH or sum(map(len, options)) <= _MAX_CHARACTERS
        enumerated = 0 < len(options) <= left and short
        left -= len(options) if enumerated else 0
        properties[control.name] = control.schema(enumerated=enumerated)
    schema = object_schema(properties)
    digest = hashlib.sha256(json.dumps(schema).encode()).hexdigest()[:12]
    return {
        "type": "json_schema",
        "json_schema": {"name": f"labels_{digest}", "strict": True, "schema": schema},
    }
