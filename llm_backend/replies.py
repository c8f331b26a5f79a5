"""Reply → a value for each control that is to be filled. Plain functions, no I/O.

A label is ticked when the reply holds it as whole words, or a close spelling of it when the reply is short.
In doubt there is no label: a wrong one costs more than a missing one.
"""

import re
import unicodedata
from collections.abc import Sequence

from rapidfuzz.distance import DamerauLevenshtein

from llm_backend.labeling_config import Choices, LabelingConfig
from llm_backend.values import ControlValues, Reply

_NEGATIONS = {"not", "no", "never", "neither", "nor", "without", "non", "cannot", "hardly"} | {
    "isnt", "arent", "wasnt", "werent", "dont", "doesnt", "didnt", "wont", "cant"
}  # fmt: skip
_WORDS_OF_A_SHORT_REPLY = 8


def values_from_replies(config: LabelingConfig, replies: Sequence[Reply]) -> ControlValues:
    """All replies as texts, in order; the labels are those of the first reply."""
    texts = tuple(reply.text.strip() for reply in replies if reply.text.strip())
    first = texts[0] if texts else ""
    return ControlValues(
        texts=texts,
        choices={choices.name: match_labels(first, choices) for choices in config.choices},
    )


def match_labels(reply: str, choices: Choices) -> tuple[str, ...]:
    """The labels that the reply names, as Label Studio stores them, in the labeling config's order.

    A single choice gives at most one: the longest found.
    """
    words = _words(reply)
    spelled = {label.stored: _words(label.value) for label in choices.labels}
    found = _whole_words(words, spelled) or _close_spelling(words, spelled)
    if not choices.multiple and len(found) > 1:
        found = [max(found, key=lambda stored: len(" ".join(spelled[stored])))]
    return tuple(label.stored for label in choices.labels if label.stored in found)


def _words(text: str) -> list[str]:
    """Words without case, punctuation and markdown; `+` and `#` stay, so that C, C++ and C# differ."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\u2019", "")
    return re.findall(r"[^\W_]+[+#]*", folded)


def _whole_words(words: list[str], spelled: dict[str, list[str]]) -> list[str]:
    """Labels whose words stand in the reply side by side; longer labels first, each word used once."""
    free = list(words)
    found = []
    for stored, label in sorted(spelled.items(), key=lambda item: -len(" ".join(item[1]))):
        for start in range(len(free) - len(label) + 1 if label else 0):
            if free[start : start + len(label)] == label:
                if not _is_negated(words, start) and stored not in found:
                    found.append(stored)
                free[start : start + len(label)] = [""] * len(label)
    return found


def _is_negated(words: list[str], start: int) -> bool:
    return any(word in _NEGATIONS for word in words[max(0, start - 2) : start])


def _close_spelling(words: list[str], spelled: dict[str, list[str]]) -> list[str]:
    """The one label that a short reply misspells: same first letter, one edit in five letters or more."""
    if not words or len(words) > _WORDS_OF_A_SHORT_REPLY:
        return []
    close = []
    for stored, label in spelled.items():
        target = " ".join(label)
        allowed = 0 if len(target) < 5 else 1 if len(target) < 9 else 2
        windows = (
            (start, " ".join(words[start : start + size]))
            for size in (len(label), len(label) - 1, len(label) + 1)
            for start in range(len(words) - size + 1 if size > 0 else 0)
        )
        for start, window in windows:
            distance = DamerauLevenshtein.distance(window, target, score_cutoff=allowed)
            if distance <= allowed and window[0] == target[0] and not _is_negated(words, start):
                close.append(stored)
                break
    return close if len(close) == 1 else []
