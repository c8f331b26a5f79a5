"""What all kinds of control have in common.

A control reads an answer into findings, one for each value that it names. It leaves out whatever is not a
value that the labeling config allows: label-studio-sdk's check lets wrong Taxonomy paths, numbers out of
range and several labels of a single choice pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from llm_backend.labeling.source import Source
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json

# How a reply is asked for: as JSON, with one line for each control, or just so.
Form = Literal["json", "lines", "plain"]
# A value in the form in which replies are compared and counted: a label as Label Studio stores it, a path,
# a number, or (start, end, label).
Pick = str | float | tuple[Any, ...]
# Gives the text of an object of the task at hand.
Show = Callable[[Source], str]

NULL: Json = {"type": "null"}
# The most numbers that a schema lists.
MAX_ENUMERATED_NUMBERS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """A value that an answer names, and where in the control's JSON it stands."""

    pick: Pick
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Control:
    """A control tag that is filled. `header` is the text of the `<Header>` that stands before it."""

    name: str
    header: str = field(default="", kw_only=True)

    # The tag in lower case, which is the `type` of its regions, too.
    kind: ClassVar[str]
    # A closed control is filled from what the labeling config allows, an open one with the model's own text.
    closed: ClassVar[bool] = True
    # The control is read from the text of the task, so that a reply is understood only beside that text.
    quotes: ClassVar[bool] = False
    # The dataclasses that its fields hold, besides `Source`.
    parts: ClassVar[tuple[type, ...]] = ()
    # The region value that Label Studio's page takes for "nothing", where there is one.
    empty: ClassVar[Json | None] = None

    @property
    def several(self) -> bool:
        """Whether it takes several values."""
        return False

    @property
    def plain(self) -> bool:
        """Whether a plain reply answers it, without a line of its own. Such are filled by default."""
        return False

    @property
    def thinking_order(self) -> int:
        """Its place in a reply, so that a model thinks first: response, other texts, quotes, judgements."""
        return 3

    @property
    def sources(self) -> tuple[Source, ...]:
        """The objects that the control needs shown, besides the one that the prompt is about."""
        return ()

    @property
    def listed_labels(self) -> tuple[str, ...]:
        """The labels that stand for `{labels}` in a prompt template, as the model is shown them."""
        return ()

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        """The control that a tag of this kind is.

        Raises:
            LabelingConfigError: it cannot be filled; the reason says why.
        """
        raise NotImplementedError

    def for_task(self, data: Mapping[str, Any], show: Show) -> "Control":
        """The control as the task shows it: with the labels that come from its data.

        `show` gives the text of an object; a control asks it for its `sources`.
        """
        return self

    def wording(self, form: Form) -> str:
        """A template for what the model is told, with placeholders for `name`, `header` and all `fields`.

        The header is empty, or in brackets with a space before it.
        """
        return '"{name}"{header}: ' + self.wanted

    @property
    def wanted(self) -> str:
        """The part of the wording that says which values there are."""
        raise NotImplementedError

    def fields(self) -> dict[str, str]:
        """What the control's own placeholders stand for."""
        return {}

    def schema(self, *, enumerated: bool) -> Json:
        """The JSON schema of the control's property, in the subset that all strict modes know.

        Where the labels are not `enumerated`, because a schema takes only so many, they are plain strings.
        """
        raise NotImplementedError

    def options(self) -> tuple[str, ...]:
        """The strings that the schema enumerates."""
        return ()

    def read(self, raw: Any, text: str) -> list[Finding]:
        """What a JSON value names; `text` is what the model has read."""
        raise NotImplementedError

    def match(self, reply: str, text: str) -> list[Finding]:
        """What a reply in free text names."""
        raise NotImplementedError

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        """The `value` of each region that the picks make, and the picks that it stands for."""
        raise NotImplementedError

    def from_regions(self, regions: Any) -> Any:
        """What regions say of this control, as a JSON value in one canonical form: undoes `region_values`.

        `regions` are those of a prediction or an annotation; those of other controls, and malformed ones, say
        nothing. Where nothing is said, this is an empty list for a control that takes a list, else None.
        """
        return self.from_values(
            region["value"]
            for region in (regions if isinstance(regions, (list, tuple)) else ())
            if isinstance(region, dict)
            and region.get("from_name") == self.name
            and isinstance(region.get("value"), dict)
        )

    def from_values(self, values: Iterable[Json]) -> Any:
        """What the `value`s of the control's regions say: see `from_regions`."""
        raise NotImplementedError

    def agrees(self, one: Any, other: Any) -> bool:
        """Whether two results of `from_regions` mean the same."""
        return bool(one == other)


def string_schema(options: tuple[str, ...], *, enumerated: bool) -> Json:
    """A string: one of the options where they are enumerated."""
    return {"type": "string", "enum": list(options)} if enumerated else {"type": "string"}


def object_schema(properties: Json) -> Json:
    """An object with these properties and no others, as the strict modes ask for."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def items_of(raw: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The items of a list, or the one value that is no list, with where they stand."""
    if isinstance(raw, list):
        yield from (((position,), item) for position, item in enumerate(raw))
    else:
        yield (), raw


def unique(findings: Iterable[Finding], *, several: bool) -> list[Finding]:
    """Each pick once; where only one may be, several that differ are none."""
    by_pick: dict[Pick, Finding] = {}
    for finding in findings:
        by_pick.setdefault(finding.pick, finding)
    return list(by_pick.values()) if several or len(by_pick) == 1 else []


def last_of(values: Iterable[Json], key: str, kinds: type | tuple[type, ...]) -> Any:
    """The last `value[key]` of these types that is not empty: of several submissions the last counts."""
    found = [
        value[key]
        for value in values
        if isinstance(value.get(key), kinds) and not isinstance(value[key], bool) and value[key] != ""
    ]
    return found[-1] if found else None


def strings_in(values: Iterable[Json], key: str) -> list[str]:
    """All strings that the lists `value[key]` hold; a string that is no list counts as a list of one."""
    lists = (value.get(key) for value in values)
    return [
        item
        for found in lists
        for item in (found if isinstance(found, list) else [found])
        if isinstance(item, str)
    ]
