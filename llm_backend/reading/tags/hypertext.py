"""`<HyperText>`: a page as a person sees it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lxml.etree
import lxml.html
from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig

from llm_backend.labeling.source import Source
from llm_backend.reading.files import TaskFiles
from llm_backend.reading.tags.base import register
from llm_backend.reading.tags.text import Text
from llm_backend.values import Reading

_UNSEEN = ("script", "style", "template", "noscript", "head")


class HyperText(Text):
    """A text whose markup is not read."""

    name = "HyperText"

    def read(self, source: Source, data: Mapping[str, Any], options: None, files: TaskFiles) -> Reading:
        """The page's visible text."""
        page = super().read(source, data, options, files)
        return replace(page, text=visible_text(page.text))


def visible_text(html: str) -> str:
    """What a person reads of a page: no tags, scripts, styles or hidden parts; one line per block."""
    if not html.strip():
        return ""
    parser = lxml.html.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)
    try:
        tree = lxml.html.document_fromstring(html.encode("utf-8"), parser=parser)
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


register(HyperText())
