"""Replies to values: which labels a reply names, and that in doubt it names none."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.labeling_config import Choices, Label, parse_labeling_config
from llm_backend.replies import match_labels, values_from_replies
from tests.conftest import CLASSIFICATION

SARCASM = ("Sarcastic", "Not Sarcastic")
SENTIMENT = ("Positive", "Negative", "Neutral")
RECEIPTS = ("Groceries", "Dining/Restaurants", "Home Improvement", "Home Furnishings/Decor", "Other")


def single(*labels: str) -> Choices:
    """Choices that take at most one of these labels."""
    return Choices("c", tuple(Label(label, label) for label in labels), multiple=False)


def multiple(*labels: str) -> Choices:
    """Choices that take any of these labels."""
    return Choices("c", tuple(Label(label, label) for label in labels), multiple=True)


@pytest.mark.parametrize(
    ("labels", "reply", "label"),
    [
        (SARCASM, "Sarcastic", "Sarcastic"),
        (SARCASM, "sarcastic.", "Sarcastic"),
        (SARCASM, "**SARCASTIC**", "Sarcastic"),
        (SARCASM, "`Not Sarcastic`", "Not Sarcastic"),
        (SARCASM, "not-sarcastic", "Not Sarcastic"),
        (SARCASM, "NOT_SARCASTIC", "Not Sarcastic"),
        (SARCASM, "not \n sarcastic", "Not Sarcastic"),
        (SARCASM, "## Answer\n\n* _Not Sarcastic_", "Not Sarcastic"),
        (SARCASM, '{"label": "Not Sarcastic"}', "Not Sarcastic"),
        (SARCASM, "It is not sarcastic at all", "Not Sarcastic"),
        (SARCASM, "No, not sarcastic.", "Not Sarcastic"),
        (SARCASM, "No. Not Sarcastic", "Not Sarcastic"),
        (SARCASM, "The text is sarcastic, not sincere", "Sarcastic"),
        (SENTIMENT, "The sentiment of this text is clearly Positive.", "Positive"),
        (SENTIMENT, "Not neutral. Positive!", "Positive"),
        (SENTIMENT, "No. Positive.", "Positive"),
        (SENTIMENT, "Neither positive nor negative: neutral", "Neutral"),
        (SENTIMENT, "It can't be negative, so it is positive", "Positive"),
        (("Yes", "No"), "No", "No"),
        (("Yes", "No"), "yes, no doubt", "Yes"),
        (("Yes", "No"), "There is no problem: yes", "Yes"),
        (RECEIPTS, "dining / restaurants", "Dining/Restaurants"),
        (RECEIPTS, "**Category:** Home Furnishings & Decor", "Home Furnishings/Decor"),
        (("Toxic", "Non-toxic"), "non toxic", "Non-toxic"),
        (("Toxic", "Non-toxic"), "Non-toxic", "Non-toxic"),
        (("Can't tell", "Other"), "can\u2019t tell", "Can't tell"),
        (("C", "C++", "C#"), "I would take C++.", "C++"),
        (("C", "C++", "C#"), "c#", "C#"),
        (("1", "10", "100"), "10", "10"),
        (("Good", "Very Good"), "very good", "Very Good"),
        (("Straße", "Haus"), "STRASSE", "Straße"),
        (("Español", "Não"), "espan\u0303ol", "Español"),
        (("正面", "负面"), "情感:负面。", "负面"),
        (("दिन", "दान"), "उत्तर: दान", "दान"),
    ],
)
def test_the_label_that_a_reply_names(labels: tuple[str, ...], reply: str, label: str) -> None:
    """Case, punctuation and markdown do not matter; of labels found as whole words the longest counts."""
    assert match_labels(reply, single(*labels)) == (label,)


@pytest.mark.parametrize(
    ("labels", "reply", "label"),
    [
        (SARCASM, "sarcastc", "Sarcastic"),
        (SARCASM, "Sarcastik", "Sarcastic"),
        (SARCASM, "Not sarcstic", "Not Sarcastic"),
        (SARCASM, "notsarcastic", "Not Sarcastic"),
        (SENTIMENT, "negativ", "Negative"),
        (SENTIMENT, "Sentiment: postive", "Positive"),
        (RECEIPTS, "Grocceries", "Groceries"),
    ],
)
def test_a_close_spelling_counts(labels: tuple[str, ...], reply: str, label: str) -> None:
    """A reply that misspells a label ticks it."""
    assert match_labels(reply, single(*labels)) == (label,)


@pytest.mark.parametrize(
    ("labels", "reply"),
    [
        (SARCASM, ""),
        (SARCASM, "\n\t"),
        (SARCASM, "🤷"),
        (SARCASM, "I cannot answer that."),
        (SARCASM, "sarcasm"),
        (SARCASM, "This isn't sarcastic"),
        (SENTIMENT, "not positive"),
        (SENTIMENT, "Positively"),
        (SENTIMENT, "natural"),
        (SENTIMENT, "Pos"),
        (SENTIMENT, "['Positive', 'Negative', 'Neutral']"),
        (SENTIMENT, "positive/negative"),
        (("Yes", "No"), "I do not know"),
        (("Yes", "No"), "nope"),
        (("Yes", "No"), "Nothing"),
        (("cat", "dog"), "car"),
        (("cat", "dog"), "concatenate"),
        (RECEIPTS, "Home"),
        (RECEIPTS, "Restaurant"),
        (("Grade 1", "Grade 2"), "Grade 3"),
        (("GPT-4", "Claude"), "GPT-5"),
        (("Version 10", "Other"), "Version 11"),
        (("1 star", "2 stars"), "10 stars"),
        (("",), "anything"),
        (("",), ""),
        ((), "Positive"),
    ],
)
def test_in_doubt_there_is_no_label(labels: tuple[str, ...], reply: str) -> None:
    """What names no label, several that are equal, or another number is no label: never a guess."""
    assert match_labels(reply, single(*labels)) == ()


@pytest.mark.parametrize(
    ("labels", "reply"),
    [
        (("A", "A-", "A+"), "A-"),
        (("A", "A-", "A+"), "A+"),
        (("A", "A-", "A+"), "A"),
        (("<18", ">18"), ">18"),
        (("+", "-"), "-"),
        (("👍", "👎"), "👎"),
    ],
)
def test_labels_that_differ_in_signs_only(labels: tuple[str, ...], reply: str) -> None:
    """A reply that is exactly a label ticks that label and no other."""
    assert match_labels(reply, single(*labels)) == (reply,)


@pytest.mark.parametrize(
    ("labels", "reply", "expected"),
    [
        (SARCASM, "Sarcastic, Not Sarcastic", SARCASM),
        (SARCASM, "Not Sarcastic", ("Not Sarcastic",)),
        (SENTIMENT, "Negative and Positive", ("Positive", "Negative")),
        (SENTIMENT, "- neutral\n- positive", ("Positive", "Neutral")),
        (SENTIMENT, "none of them", ()),
        (("Good", "Very Good"), "very good", ("Very Good",)),
        (("Good", "Very Good"), "very good, good", ("Good", "Very Good")),
        (("C", "C++"), "C and C++", ("C", "C++")),
    ],
)
def test_multiple_choices(labels: tuple[str, ...], reply: str, expected: tuple[str, ...]) -> None:
    """All labels found are ticked, in the config's order; a word counts for one label only."""
    assert match_labels(reply, multiple(*labels)) == expected


def test_an_alias_is_what_is_stored() -> None:
    """The reply names what the model was shown; Label Studio gets the alias."""
    choices = Choices("c", (Label("Good", "1"), Label("Bad", "2")), multiple=False)
    assert match_labels("It is bad", choices) == ("2",)


def test_replies_fill_the_controls() -> None:
    """All replies are texts, trimmed and in order; the labels are those of the first."""
    config = parse_labeling_config(CLASSIFICATION, "prompt")
    values = values_from_replies(config, [" Sarcastic\n", "Not Sarcastic", "  "])
    assert values.texts == ("Sarcastic", "Not Sarcastic")
    assert values.choices == {"sentiment": ("Sarcastic",)}


@pytest.mark.parametrize("replies", [[], [""], [" \n", ""]])
def test_no_reply_fills_nothing(replies: list[str]) -> None:
    """Without a text there is neither a text nor a label."""
    values = values_from_replies(parse_labeling_config(CLASSIFICATION, "prompt"), replies)
    assert (values.texts, dict(values.choices)) == ((), {"sentiment": ()})


def test_several_choices_are_matched_each_by_itself() -> None:
    """Every Choices tag gets the labels that are its own."""
    config = parse_labeling_config(
        '<View><Text name="t" value="$t"/><TextArea name="prompt" toName="t"/>'
        '<Choices name="a" toName="t"><Choice value="Good"/><Choice value="Bad"/></Choices>'
        '<Choices name="b" toName="t"><Choice value="Long"/><Choice value="Short"/></Choices></View>',
        "prompt",
    )
    assert values_from_replies(config, ["Good, but long"]).choices == {"a": ("Good",), "b": ("Long",)}


label_lists = st.lists(
    st.text(max_size=12) | st.sampled_from(["Yes", "No", "Not Yes", "Sarcastic"]), max_size=6
)
sentences = st.lists(st.text(max_size=8) | st.sampled_from(["not", "Yes", "sarcastic", "**", "no"])).map(
    " ".join
)


@settings(deadline=None)
@given(label_lists, sentences, st.booleans())
@example(["", " "], "", True)
def test_only_labels_of_the_config_are_ticked(labels: list[str], reply: str, several: bool) -> None:
    """Whatever a model replies: labels of the config, each once, in order, and at most one when single."""
    stored = tuple(dict.fromkeys(labels))
    choices = multiple(*stored) if several else single(*stored)
    ticked = match_labels(reply, choices)
    assert list(ticked) == [label for label in stored if label in ticked]
    assert len(ticked) == len(set(ticked))
    assert several or len(ticked) <= 1


@settings(deadline=None)
@given(
    st.lists(
        st.text(alphabet="abcXYZ 019+-/<>.", min_size=1, max_size=10).map(str.strip).filter(bool),
        min_size=1,
        max_size=5,
        unique_by=str.casefold,
    ),
    st.data(),
)
def test_a_reply_that_is_a_label_ticks_it(labels: list[str], data: st.DataObject) -> None:
    """A model that does just what it was asked for is always understood."""
    label = data.draw(st.sampled_from(labels))
    assert match_labels(label, single(*labels)) == (label,)
