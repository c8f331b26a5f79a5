"""The JSON schema that a reply must fit."""

import json
from collections.abc import Iterator

from llm_backend.labeling.schema import response_format
from llm_backend.values import Json
from tests.test_controls import ALL, config, filled


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
