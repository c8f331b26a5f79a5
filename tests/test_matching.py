"""Free text → labels: what LLMs really reply, and that in doubt there is no label."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.labeling.matching import Vocabulary

SARCASM = ("Sarcastic", "Not Sarcastic")
SENTIMENT = ("Positive", "Negative", "Neutral")
RECEIPTS = ("Groceries", "Dining/Restaurants", "Home Improvement", "Home Furnishings/Decor", "Other")
YES_NO = ("Yes", "No")
LANGUAGES = ("C", "C++", "C#", "Java", "JavaScript")
RELEVANCE = ("Relevant", "Irrelevant")
STARS = ("1", "2", "3", "4", "5")
LETTERS = ("A", "B", "C", "D")
TOXICITY = ("Toxic", "Non-toxic")
CHINESE = ("正面", "负面", "中性")
ARABIC = ("إيجابي", "سلبي", "محايد")

# (labels, reply, the one label of a single choice, or None)
SINGLE: list[tuple[tuple[str, ...], str, str | None]] = [
    # the label alone, dressed up
    (SARCASM, "Sarcastic", "Sarcastic"),
    (SARCASM, "sarcastic.", "Sarcastic"),
    (SARCASM, "**SARCASTIC**", "Sarcastic"),
    (SARCASM, "`Not Sarcastic`", "Not Sarcastic"),
    (SARCASM, '"Not Sarcastic"', "Not Sarcastic"),
    (SARCASM, "“Not Sarcastic”", "Not Sarcastic"),
    (SARCASM, "not-sarcastic", "Not Sarcastic"),
    (SARCASM, "NOT_SARCASTIC", "Not Sarcastic"),
    (SARCASM, "not \n sarcastic", "Not Sarcastic"),
    (SARCASM, "[Sarcastic]", "Sarcastic"),
    (SARCASM, "- Sarcastic", "Sarcastic"),
    (SARCASM, "1. Sarcastic", "Sarcastic"),
    (SARCASM, "* **Sarcastic**", "Sarcastic"),
    (SARCASM, "> Sarcastic", "Sarcastic"),
    (SARCASM, "'Sarcastic'!", "Sarcastic"),
    (SARCASM, "## Answer\n\n* _Not Sarcastic_", "Not Sarcastic"),
    (SARCASM, "```\nSarcastic\n```", "Sarcastic"),
    (SARCASM, "```text\nNot Sarcastic\n```", "Not Sarcastic"),
    (SARCASM, "$\\boxed{\\text{Sarcastic}}$", "Sarcastic"),
    # JSON
    (SARCASM, '{"label": "Not Sarcastic"}', "Not Sarcastic"),
    (SARCASM, '```json\n{"label": "Sarcastic"}\n```', "Sarcastic"),
    (SARCASM, 'Here is the JSON:\n```json\n{\n  "sentiment": "Sarcastic"\n}\n```', "Sarcastic"),
    (SARCASM, '["Sarcastic"]', "Sarcastic"),
    (SARCASM, "{'classification': 'Not Sarcastic'}", "Not Sarcastic"),
    (SENTIMENT, '{"label": "Positive", "reason": "No negative words, not neutral"}', "Positive"),
    (SENTIMENT, '{"Positive": true, "Negative": false, "Neutral": false}', "Positive"),
    (SENTIMENT, '{"explanation": "It is negative in parts", "answer": "neutral"}', "Neutral"),
    (SENTIMENT, '{"result": {"category": "Negative", "confidence": 0.9}}', "Negative"),
    (SENTIMENT, '{"label": "Mixed"}', None),
    (SENTIMENT, '{"label": null}', None),
    # Label: X
    (SARCASM, "Label: Sarcastic", "Sarcastic"),
    (SARCASM, "**Label:** Not Sarcastic", "Not Sarcastic"),
    (SARCASM, "Answer - Sarcastic", "Sarcastic"),
    (SARCASM, "Classification = Sarcastic", "Sarcastic"),
    (SENTIMENT, "Sentiment: positive (very enthusiastic, nothing negative)", "Positive"),
    (SENTIMENT, "Sentiment: Negative\nExplanation: The positive words are ironic.", "Negative"),
    (SENTIMENT, "Explanation: good and bad, positive and negative.\nLabel: Neutral", "Neutral"),
    (SENTIMENT, "Let me think. Negative words: none. Positive words: great.\n\nFinal answer: Positive", "Positive"),
    (SENTIMENT, "The answer is: **Neutral**.", "Neutral"),
    (SENTIMENT, "The correct label is Negative.", "Negative"),
    (SENTIMENT, "Sentiment:\nPositive", "Positive"),
    (SENTIMENT, "Category: Positive\nCategory: Negative", None),
    (RECEIPTS, "**Category:** Home Furnishings & Decor", "Home Furnishings/Decor"),
    (RECEIPTS, "Category: Other (a gym membership, not groceries)", "Other"),
    # sentences
    (SARCASM, "The text is sarcastic.", "Sarcastic"),
    (SARCASM, "It is not sarcastic at all", "Not Sarcastic"),
    (SARCASM, "The text is sarcastic, not sincere", "Sarcastic"),
    (SARCASM, "This comment is clearly sarcastic because nobody loves traffic.", "Sarcastic"),
    (SARCASM, "I would say this is Not Sarcastic.", "Not Sarcastic"),
    (SARCASM, "Based on the text, the author is being sarcastic about the weather.", "Sarcastic"),
    (SENTIMENT, "The sentiment of this text is clearly Positive.", "Positive"),
    (SENTIMENT, "This review expresses a negative sentiment.", "Negative"),
    (SENTIMENT, "I would classify this text as 'Neutral'.", "Neutral"),
    (SENTIMENT, "Sure! The sentiment is positive. 😊", "Positive"),
    (RECEIPTS, "The receipt is from a supermarket, so it belongs to Groceries.", "Groceries"),
    (RECEIPTS, "dining / restaurants", "Dining/Restaurants"),
    # negation
    (SARCASM, "This isn't sarcastic", "Not Sarcastic"),
    (SARCASM, "The text is not at all sarcastic.", "Not Sarcastic"),
    (SARCASM, "The author does not seem to be sarcastic.", "Not Sarcastic"),
    (SARCASM, "No, not sarcastic.", "Not Sarcastic"),
    (SARCASM, "No. Not Sarcastic", "Not Sarcastic"),
    (SARCASM, "It's not just sarcastic, it's bitter.", "Sarcastic"),
    (SENTIMENT, "not positive", None),
    (SENTIMENT, "Not neutral. Positive!", "Positive"),
    (SENTIMENT, "No. Positive.", "Positive"),
    (SENTIMENT, "Neither positive nor negative: neutral", "Neutral"),
    (SENTIMENT, "It is not negative or neutral; it is positive.", "Positive"),
    (SENTIMENT, "It can't be negative, so it is positive", "Positive"),
    (SENTIMENT, "Positive rather than negative", "Positive"),
    (SENTIMENT, "It is negative instead of positive.", "Negative"),
    (TOXICITY, "non toxic", "Non-toxic"),
    (TOXICITY, "Non-toxic", "Non-toxic"),
    (TOXICITY, "The comment is not toxic.", "Non-toxic"),
    (TOXICITY, "This is a toxic comment.", "Toxic"),
    # labels inside other labels
    (LANGUAGES, "I would take C++.", "C++"),
    (LANGUAGES, "c#", "C#"),
    (LANGUAGES, "C", "C"),
    (LANGUAGES, "The code is written in C.", "C"),
    (LANGUAGES, "The snippet is JavaScript", "JavaScript"),
    (LANGUAGES, "Language: Java", "Java"),
    (RELEVANCE, "irrelevant", "Irrelevant"),
    (RELEVANCE, "The answer is relevant to the question.", "Relevant"),
    (RELEVANCE, "The answer is not relevant.", "Irrelevant"),
    (("Good", "Very Good"), "very good", "Very Good"),
    (("Good", "Very Good"), "The answer is good.", "Good"),
    (("Spam", "Not Spam", "Maybe Spam"), "Maybe spam", "Maybe Spam"),
    (("A", "A-", "A+"), "A-", "A-"),
    (("A", "A-", "A+"), "Grade: A+", "A+"),
    # numbers and letters
    (("1", "10", "100"), "10", "10"),
    (STARS, "4", "4"),
    (STARS, "4/5", "4"),
    (STARS, "Rating: 4 out of 5", "4"),
    (STARS, "I would give it a 3.", "3"),
    (STARS, "4.5", None),
    (STARS, "between 3 and 4", None),
    (STARS, "42", None),
    (("-1", "0", "1"), "-1", "-1"),
    (("-1", "0", "1"), "Score: -1", "-1"),
    (("1 star", "2 stars"), "10 stars", None),
    (("<18", "18-25", ">25"), "18-25", "18-25"),
    (("<18", "18-25", ">25"), "The person is >25.", ">25"),
    (LETTERS, "B", "B"),
    (LETTERS, "B) Paris", "B"),
    (LETTERS, "The correct answer is B.", "B"),
    (LETTERS, "(C) because a map shows it", "C"),
    (LETTERS, "A map is a drawing.", None),
    (("Grade 1", "Grade 2"), "Grade 3", None),
    (("GPT-4", "Claude"), "GPT-5", None),
    (("Version 10", "Other"), "Version 11", None),
    # yes and no
    (YES_NO, "Yes", "Yes"),
    (YES_NO, "No", "No"),
    (YES_NO, "Yes, it is.", "Yes"),
    (YES_NO, "No, there is no evidence. Yes would be wrong.", "No"),
    (YES_NO, "yes, no doubt", "Yes"),
    (YES_NO, "There is no problem: yes", "Yes"),
    (YES_NO, "The answer is no.", "No"),
    (YES_NO, "**Yes** — the text mentions no other person.", "Yes"),
    (YES_NO, "No it does not", "No"),
    (YES_NO, "I do not know", None),
    (YES_NO, "nope", None),
    (YES_NO, "Nothing", None),
    (YES_NO, "There is no information about that.", None),
    (SARCASM, "Yes", None),
    (SARCASM, "No.", None),
    # a first line that answers, then an explanation that mentions other labels
    (SENTIMENT, "Positive\n\nThe text says nothing negative, and is not neutral either.", "Positive"),
    (SENTIMENT, "Negative. Although there are positive words, they are ironic.", "Negative"),
    (SENTIMENT, "Neutral - the text is neither a positive nor a negative one, positive words are rare", "Neutral"),
    (SENTIMENT, "**Negative**\n\nReasons:\n- positive words are missing\n- negative words abound", "Negative"),
    (SENTIMENT, "The sentiment is negative. A positive reading would ignore the irony.", "Negative"),
    (SENTIMENT, "It has positive and negative parts. Overall, the text is neutral.", "Neutral"),
    (SENTIMENT, "There are positive aspects.\nThere are negative aspects.\nTherefore I choose **Negative**.", "Negative"),
    # other scripts
    (CHINESE, "负面", "负面"),
    (CHINESE, "情感:负面。", "负面"),
    (CHINESE, "这段文字是负面的。", "负面"),
    (CHINESE, "这不是负面的,而是正面的。", "正面"),
    (("讽刺", "不讽刺"), "这句话不讽刺。", "不讽刺"),
    (("讽刺", "不讽刺"), "讽刺", "讽刺"),
    (("긍정", "부정"), "긍정적입니다", "긍정"),
    (("ポジティブ", "ネガティブ"), "答え：ネガティブ", "ネガティブ"),
    (ARABIC, "سلبي", "سلبي"),
    (ARABIC, "التصنيف: إيجابي", "إيجابي"),
    (ARABIC, "النص ليس سلبي، محايد", "محايد"),
    (("दिन", "दान"), "उत्तर: दान", "दान"),
    (("Español", "Não"), "espan\u0303ol", "Español"),
    (("Straße", "Haus"), "STRASSE", "Straße"),
    (("положительный", "отрицательный"), "Ответ: отрицательный", "отрицательный"),
    # close spellings
    (SARCASM, "sarcastc", "Sarcastic"),
    (SARCASM, "Not sarcstic", "Not Sarcastic"),
    (SENTIMENT, "negativ", "Negative"),
    (SENTIMENT, "Sentiment: postive", "Positive"),
    (RECEIPTS, "Grocceries", "Groceries"),
    (("Can't tell", "Other"), "can\u2019t tell", "Can't tell"),
    # refusals, hedges, echoes: no label
    (SARCASM, "", None),
    (SARCASM, "🤷", None),
    (SARCASM, "I cannot answer that.", None),
    (SARCASM, "I'm sorry, I cannot determine whether the text is sarcastic.", None),
    (SARCASM, "As an AI language model, I can't tell if this is sarcastic.", None),
    (SARCASM, "Is the text sarcastic?", None),
    (SARCASM, "It might be sarcastic.", None),
    (SARCASM, "I'm not sure if it is sarcastic or not sarcastic.", None),
    (SARCASM, "sarcasm", None),
    (SARCASM, "Sarcastic or Not Sarcastic", None),
    (SARCASM, "The text could be either sarcastic or not sarcastic.", None),
    (SENTIMENT, "['Positive', 'Negative', 'Neutral']", None),
    (SENTIMENT, "Positive/Negative", None),
    (SENTIMENT, "Some might say it is negative. But it has positive sides.", None),
    (SENTIMENT, "- Positive: 0.7\n- Negative: 0.2\n- Neutral: 0.1", None),
    (SENTIMENT, "Please provide the text so that I can classify it as Positive, Negative or Neutral.", None),
    (SENTIMENT, "Positively", None),
    (SENTIMENT, "natural", None),
    (SENTIMENT, "Pos", None),
    (("cat", "dog"), "car", None),
    (("cat", "dog"), "concatenate", None),
    (RECEIPTS, "Home", None),
    (RECEIPTS, "On the other hand, I do not know.", None),
    (("👍", "👎"), "👎", "👎"),
    (("👍", "👎"), "👍 Great!", "👍"),
    (("+", "-"), "-", "-"),
    (("",), "anything", None),
    ((), "Positive", None),
]  # fmt: skip

# (labels, reply, the labels of a multiple choice)
MULTIPLE: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = [
    (SARCASM, "Sarcastic, Not Sarcastic", SARCASM),
    (SARCASM, "Not Sarcastic", ("Not Sarcastic",)),
    (SENTIMENT, "Negative and Positive", ("Positive", "Negative")),
    (SENTIMENT, "Labels: negative; neutral", ("Negative", "Neutral")),
    (SENTIMENT, "- neutral\n- positive", ("Positive", "Neutral")),
    (SENTIMENT, "1. Positive\n2. Negative", ("Positive", "Negative")),
    (SENTIMENT, "neutral\npositive", ("Positive", "Neutral")),
    (SENTIMENT, '["Positive", "Neutral"]', ("Positive", "Neutral")),
    (SENTIMENT, '{"labels": ["Negative"], "reasoning": "nothing positive"}', ("Negative",)),
    (SENTIMENT, '```json\n{"labels": ["Negative", "Neutral"]}\n```', ("Negative", "Neutral")),
    (SENTIMENT, "- Positive: yes\n- Negative: no\n- Neutral: yes", ("Positive", "Neutral")),
    (SENTIMENT, "- **Positive**: it praises the food\n- **Negative**: it hates the noise", ("Positive", "Negative")),
    (SENTIMENT, "Positive | Neutral", ("Positive", "Neutral")),
    (SENTIMENT, "Positive\n\nIt is not negative, and a neutral text would have no praise.", ("Positive",)),
    (SENTIMENT, "The text is positive but not neutral.", ("Positive",)),
    (SENTIMENT, "The labels are Positive and Neutral.", ("Positive", "Neutral")),
    (SENTIMENT, "Labels:\n- Positive\n- Negative", ("Positive", "Negative")),
    (SENTIMENT, "none of them", ()),
    (SENTIMENT, "It is neither positive nor negative.", ()),
    (SENTIMENT, "I cannot classify this as Positive or Negative.", ()),
    (("Good", "Very Good"), "very good", ("Very Good",)),
    (("Good", "Very Good"), "very good, good", ("Good", "Very Good")),
    (LANGUAGES, "C and C++", ("C", "C++")),
    (LANGUAGES, "Java, JavaScript", ("Java", "JavaScript")),
    (CHINESE, "正面、中性", ("正面", "中性")),
    (ARABIC, "إيجابي، محايد", ("إيجابي", "محايد")),
]  # fmt: skip


def matched(labels: tuple[str, ...], reply: str, *, multiple: bool, name: str = "") -> tuple[str, ...]:
    """The labels that the reply names."""
    return tuple(labels[number] for number in Vocabulary(labels).match(reply, multiple=multiple, name=name))


@pytest.mark.parametrize(("labels", "reply", "label"), SINGLE)
def test_the_label_that_a_reply_names(labels: tuple[str, ...], reply: str, label: str | None) -> None:
    """A single choice gets the label that the reply says, and in doubt none."""
    assert matched(labels, reply, multiple=False) == (() if label is None else (label,))


@pytest.mark.parametrize(("labels", "reply", "expected"), MULTIPLE)
def test_the_labels_that_a_reply_names(
    labels: tuple[str, ...], reply: str, expected: tuple[str, ...]
) -> None:
    """A multiple choice gets all labels that the reply says, in the order of the labeling config."""
    assert matched(labels, reply, multiple=True) == expected


def test_the_table_is_long_enough() -> None:
    """At least 120 replies as LLMs really write them are decided."""
    assert len(SINGLE) + len(MULTIPLE) >= 120


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("tone: Negative\nother: Positive", ("Negative",)),
        ("other: Positive\n**Tone**: Neutral (mostly)", ("Neutral",)),
        ("tone = positive", ("Positive",)),
    ],
)
def test_a_line_that_names_the_control_answers(reply: str, label: tuple[str, ...]) -> None:
    """Where several controls are answered in lines, each takes its own line."""
    assert matched(SENTIMENT, reply, multiple=False, name="tone") == label


label_lists = st.lists(
    st.text(max_size=12) | st.sampled_from(["Yes", "No", "Not Yes", "Sarcastic", "C", "C++"]), max_size=6
)
replies = st.lists(
    st.text(max_size=8)
    | st.sampled_from(["not", "Yes", "sarcastic", "**", "no", "\n- ", "Label:", '{"a":', "}", "C++", "or"])
).map(" ".join)


@settings(deadline=None)
@given(label_lists, replies, st.booleans())
@example(["", " "], "", True)
def test_only_labels_of_the_list_are_named(labels: list[str], reply: str, several: bool) -> None:
    """Whatever a model replies: numbers of labels, each once, in order, and at most one when single."""
    found = Vocabulary(labels).match(reply, multiple=several)
    assert list(found) == sorted(set(found))
    assert all(0 <= number < len(labels) for number in found)
    assert several or len(found) <= 1


plain_labels = st.lists(
    st.text(alphabet="abcXYZ 019+-/<>.", min_size=1, max_size=10).map(str.strip).filter(bool),
    min_size=1,
    max_size=5,
    unique_by=lambda label: " ".join(label.casefold().split()),
)


@settings(deadline=None)
@given(plain_labels, st.data())
def test_a_reply_that_is_a_label_names_it(labels: list[str], data: st.DataObject) -> None:
    """A model that does just what it was asked for is always understood."""
    label = data.draw(st.sampled_from(labels))
    assert matched(tuple(labels), label, multiple=False) == (label,)


words = st.lists(
    st.text(alphabet="bcdfghjklmpqrstvwxz", min_size=3, max_size=8),
    min_size=2,
    max_size=5,
    unique=True,
)
wrappings = st.sampled_from(
    [
        "{}",
        "{}.",
        "**{}**",
        "`{}`",
        '"{}"',
        "- {}",
        "Label: {}",
        "**Label:** {}",
        '{{"label": "{}"}}',
        "```\n{}\n```",
    ]
)


@settings(deadline=None)
@given(words, wrappings, st.data())
def test_what_is_wrapped_around_a_label_does_not_matter(
    labels: list[str], wrapping: str, data: st.DataObject
) -> None:
    """Markdown, quotes, JSON, fences and `Label:` around a label leave it the same label, in any case."""
    label = data.draw(st.sampled_from(labels))
    reply = wrapping.format(data.draw(st.sampled_from([label, label.upper(), label.title()])))
    assert matched(tuple(labels), reply, multiple=False) == (label,)


@settings(deadline=None)
@given(
    words,
    st.sampled_from(["not {}", "It is not {}.", "This isn't {}", "never {}", "It is not really {}."]),
    st.data(),
)
def test_a_negated_label_is_never_named(labels: list[str], sentence: str, data: st.DataObject) -> None:
    """What a reply denies is not ticked."""
    label = data.draw(st.sampled_from(labels))
    assert label not in matched(tuple(labels), sentence.format(label), multiple=True)
    assert matched((*labels, f"not {label}"), sentence.format(label), multiple=False) == (f"not {label}",)
