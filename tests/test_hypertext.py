"""Pages as a person sees them."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.reading.tags.hypertext import visible_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        (" \n ", ""),
        ("plain text", "plain text"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("one<br>two", "one\ntwo"),
        ("a &amp; b &lt;i&gt; &eacute; &#8364;", "a & b <i> é €"),
        ("a&nbsp;b", "a b"),
        ("<b>bo</b>ld <i>text</i>.", "bold text."),
        ("un<span>believ</span>able", "unbelievable"),
        ("<span>Hello</span>, <span>world</span>.", "Hello, world."),
        ("H<sub>2</sub>O", "H2O"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("x<script>alert('s')</script>y", "xy"),
        ("<style>p { color: red }</style>y", "y"),
        ("<!-- c -->y", "y"),
        ("<template>t</template><noscript>n</noscript>y", "y"),
        ("<p hidden>h</p>y", "y"),
        ("<div style='display:none'>h</div>y", "y"),
        ("<html><head><title>T</title></head><body>B</body></html>", "B"),
        ("<!DOCTYPE html><html><body>B</body></html>", "B"),
        ("<?xml version='1.0' encoding='latin-1'?><p>é</p>", "é"),
        ("<meta charset='latin-1'><p>é 情感 🙂</p>", "é 情感 🙂"),
        ("<a href='http://x'>link</a>", "link"),
        ("<p>never closed", "never closed"),
        ("</p>", ""),
        ("<script>only</script>", ""),
        ("<p>a<!-- c -->\x1fb</p>", "a b"),
        ("<!-- c -->a\x0bb", "a b"),
    ],
)
def test_what_a_person_reads_of_a_page(html: str, text: str) -> None:
    """HyperText is read as it is seen: words, lines and entities, but no tags, scripts or hidden parts."""
    assert visible_text(html) == text


def test_tables_and_lists_keep_their_words_apart() -> None:
    """Cells and items do not run into each other."""
    words = visible_text("<table><tr><td>1</td><td>2</td></tr></table><ul><li>a<li>b</ul>").split()
    assert [word for word in words if word.isalnum()] == ["1", "2", "a", "b"]


@pytest.mark.parametrize("depth", [300, 1500])
def test_deep_pages_are_read(depth: int) -> None:
    """However deep the words stand, they are read."""
    assert visible_text("<div>" * depth + "deep" + "</div>" * depth).strip() == "deep"


pieces = st.sampled_from(
    [
        *(
            f"<{tag}>"
            for tag in ("p", "div", "table", "tr", "td", "ul", "ol", "li", "pre", "script", "style", "svg")
        ),
        *(f"</{tag}>" for tag in ("p", "div", "table", "tr", "td", "ul", "pre", "script", "body", "html")),
        "<p style='margin-top: em; padding: x; display: what'>",
        "<td colspan=x valign=bottom align=none>",
        "<ol start=x>",
        "<!--",
        "-->",
        "<!>",
        "<?x",
        "&#1;",
        "&#xD800;",
        "&",
        "<",
        "\x00",
        "\x1f",
        "\x0c",
    ]
)


@settings(deadline=None)
@given(st.lists(pieces | st.text(max_size=4), max_size=12).map("".join))
@example("0<!>\x1f")
@example("<p hidden>a</p>&#1;")
@example("<script></script>&#1;b")
@example("\ud800")
def test_any_page_is_read(html: str) -> None:
    """Whatever stands in a page, reading it gives a text."""
    assert isinstance(visible_text(html), str)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=1))
def test_words_are_read_as_they_are(word: str) -> None:
    """A word in a paragraph is read as that word."""
    assert visible_text(f"<p>{word}</p>") == word
