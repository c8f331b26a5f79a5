"""Texts of a task: what a person reads of a page, and who says what in a dialogue. No I/O."""

import json
import re
from typing import Any

import lxml.etree
import lxml.html
from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig

from llm_backend.errors import InputError
from llm_backend.labeling.source import Source
from llm_backend.values import Message, Role

_CHAT_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_UNSEEN = ("script", "style", "template", "noscript", "head")


def visible_text(html: str) -> str:
    """What a person reads of a page: no tags, scripts, styles or hidden parts; one line per block."""
    if not html.strip():
        return ""
    try:
        tree = lxml.html.document_fromstring(html.encode("utf-8"), parser=_html_parser())
    except (lxml.etree.ParserError, ValueError):
        return ""
    for hidden in tree.xpath("//*[@hidden]"):
        hidden.tag = "template"
    lxml.etree.strip_elements(
        tree, *_UNSEEN, lxml.etree.Comment, lxml.etree.ProcessingInstruction, with_tail=False
    )
    try:
        text = Inscriptis(tree, ParserConfig(css=STRICT_CSS_PROFILE.copy())).get_text()
    except RecursionError:  # hundreds of nested elements: the words still count, the layout does not
        text = " ".join(tree.itertext())
    lines = (line.rstrip() for line in text.replace("\xa0", " ").splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _html_parser() -> lxml.html.HTMLParser:
    return lxml.html.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)


def turns_of(source: Source, value: Any) -> list[tuple[str, str]]:
    """Who said what."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise InputError("Paragraphs need a list of objects in the task, one for each turn")
    if value and not any(source.text_key in turn for turn in value):
        raise InputError(
            f'No turn of the dialogue has "{source.text_key}": set textKey in the labeling config'
        )
    return [(_plain(turn.get(source.name_key)).strip(), _plain(turn.get(source.text_key))) for turn in value]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def as_chat(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """The turns as chat messages, or nothing when a name is not a chat role."""
    if not all(name.lower() in _CHAT_ROLES for name, _ in turns):
        return ()
    return tuple(Message(_CHAT_ROLES[name.lower()], said) for name, said in turns)
