"""Free text → labels. Plain functions of the text; in doubt there is no label.

A label counts where its words stand in the reply side by side, unless they are negated ("not positive"),
put as a question or a possibility ("whether it is positive", "might be"), or part of a longer label there.
What answers most plainly counts first: the whole reply, then JSON, then `Label: X`, then a first line that
is an answer, and only then all that is said.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import DamerauLevenshtein

from llm_backend.labeling.json_spans import find_value

# One word for each character of scripts that are written without spaces, or add endings to words.
_NO_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
# Marks that belong to the letter before them, and that \w leaves out.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(
    rf"[<>≤≥]=?\s?\d+(?:[.,]\d+)*%?"
    rf"|(?<!\w)[-+]?\d+(?:[.,]\d+)*%?(?![^\W_{_NO_SPACES}])"
    rf"|[{_NO_SPACES}]"
    rf"|(?<!\w)[^\W\d_]-(?!\w)"
    rf"|(?:(?![{_NO_SPACES}])[^\W_]|[{_MARKS}])+[+#]*"
)
_EMOJI = re.compile("[\u2190-\u2bff\U0001f000-\U0001faff]")
_BOUNDARY = re.compile(
    r"[,;:.!?()\[\]{}\"\u201c\u201d|=\n\u2014\u2013，。；：！？、（）「」؟،؛।…]| - |->|=>|→"
)
_ARABIC_MARKS = re.compile("[\u0640\u064b-\u0652]")

_NEGATIONS = frozenset(
    "not no never neither nor without non cannot hardly barely isnt arent wasnt werent dont doesnt didnt "
    "wont cant lacks lacking than instead unlike opposed 不 非 没 沒 無 无 未 别 ない ليس ليست غير لا لم "
    "kein keine nicht pas ni nunca не нет".split()
)
_NEGATION_WORDS_BEFORE = 4
_JOINING = frozenset({"or", "nor", "and", "或", "和", "أو", "و", "oder", "ou", "или"})
# What makes a negation, or a whole sentence, say nothing about a label.
_UNDECIDED = re.compile(
    r"\b(whether|might|may|could|perhaps|possibly|maybe|unclear|unsure|uncertain|ambiguous|either|"
    r"some (people )?(would|might|may|could)|"
    r"(not|isnt|cannot|cant) (sure|certain|clear|know|tell|say|obvious)|"
    r"(cannot|cant|could not|couldnt|unable to|not able to|impossible to|hard to|difficult to|wont|will not) "
    r"(be |reliably |really |accurately )*"
    r"(determined?|say|tell|classify|classified|assess|judge|decide|answer|provide|help|assist|label)|"
    r"need more (context|information)|if (it|this|the|you|we)|"
    r"(possible|available|given|following|provided) (labels|options|categories|choices)|"
    r"(options|choices) (are|include)|choose (from|between|one)|one of the (following|labels))\b|"
    r"无法|不能确定|不确定|لا أستطيع|لا يمكن"
)
_QUESTION = re.compile(r"[?？؟][\s*_\"']*$")
_NOT_ONLY = re.compile(r"\bnot (only|just|merely)\b")
_CONCLUDING = re.compile(
    r"\b(overall|therefore|thus|hence|in conclusion|in summary|to sum up|ultimately|in short|all in all|"
    r"final(ly)?|so the|(i )?(would|d|will) (classify|label|categorize|choose|say|go|pick)|"
    r"i (classify|label|choose|pick)|best (described|classified|categorized|fits|label|answer|match)|"
    r"should be (classified|labeled))\b"
)
_MARKER_NOUNS = (
    r"answer|labels?|categor(?:y|ies)|classification|class|classes|sentiment|verdict|result|output|prediction|"
    r"choices?|rating|score|conclusion|decision|type|topics?|tags?|emotion|intent|tone|response|"
    r"答案|标签|類別|类别|分类|情感|结论|答え|ラベル|الإجابة|التصنيف|الفئة|antwort|respuesta|réponse|ответ"
)
_MARKER = re.compile(
    rf"^\W*(?P<final>final |my final )?"
    rf"(?:(?:the|my|correct|best|predicted|suggested|selected|overall|chosen) )*"
    rf"(?:{_MARKER_NOUNS})(?: (?:of|for) [\w ]{{1,40}})?(?:\((?:s|es)\))?\W{{0,3}}?\s*"
    rf"(?:[:=：]|->|=>|→|\bis\b(?!\w)|是)"
    rf"\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
# Words that a label may be, and that mean something else in most sentences.
_WEAK = frozenset("yes no not other none neither both all a i it is good true false left right".split())
_CUES = frozenset(
    "is are as answer option label category class choose select pick be grade say choice was its → 是".split()
)
_AFTER_A_PLAIN_NO = frozenset("it this the there that i he she they we".split())
_SUPPORTING_KEYS = re.compile(
    r"reason|explan|rational|thought|analysis|comment|evidence|justif|confiden|score|prob", re.I
)
_LABEL_KEYS = re.compile(
    rf"(?:{_MARKER_NOUNS}|final_answer|value|selected|is|name|sentiments|emotions)", re.I
)
_POLARITY = re.compile(
    r"^\W*(?P<no>no|false|n/a|not applicable|none|not present|absent|0(?:\.0+)?|✗|✘|❌)\W*$|"
    r"^\W*(?P<yes>yes|true|1(?:\.0+)?|present|✓|✔|✅)\W*$",
    re.I,
)
_BULLET = re.compile(r"^\s*(?:[-*•·▪–+]|\(?\d{1,2}[.)]|\(?[a-z][)])\s+", re.I)
_WORDS_OF_A_SHORT_REPLY = 8
_WORDS_OF_AN_ANSWER = 16
_LONGEST_READ = 20_000  # characters; what is longer than a few pages does not answer which label it is
_LETTERS_OF_A_MISSPELLABLE_LABEL = 5
_WORDS_OF_A_FILLER = frozenset(
    "the a an is are it its this that text sentence review tweet comment message post label labels category "
    "categories class and or both sentiment answer of to be would say as i following therefore so clearly "
    "definitely sure okay ok certainly my final most likely".split()
)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a text: folded, as it was written, and whether a clause begins with it."""

    folded: str
    written: str
    begins: bool
    end: int


class Vocabulary:
    """Labels made ready to be looked for in any number of replies. `labels` are what a model is shown."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._written: dict[str, int] = {}
        self._exact: dict[str, int] = {}
        self._spelled: list[tuple[str, ...]] = []
        self._by_first: dict[str, list[int]] = {}
        self._misspellable: dict[str, list[tuple[str, int]]] = {}
        for number, label in enumerate(self._labels):
            self._written.setdefault(_folded(label.strip()), number)
            self._exact.setdefault(_bare(label), number)
            words = tuple(word.folded for word in _words(label))
            self._spelled.append(words)
            if words:
                self._by_first.setdefault(words[0], []).append(number)
            target = " ".join(words)
            if len(target) >= _LETTERS_OF_A_MISSPELLABLE_LABEL and not target.isdigit():
                self._misspellable.setdefault(target[0], []).append((target, number))
        for numbers in self._by_first.values():
            numbers.sort(key=lambda number: -len(self._spelled[number]))
        by_words = {words: number for number, words in enumerate(self._spelled) if words}
        self._opposite = dict(self._opposites(by_words))
        self._written_numbers = any(re.fullmatch(r"[-+]?\d+(\.\d+)?", label.strip()) for label in labels)

    def exact(self, text: str) -> int | None:
        """The label that the text is, but for case, quotes, markdown and a full stop."""
        written = self._written.get(_folded(text.strip()))
        return self._exact.get(_bare(text)) if written is None else written

    def match(self, reply: str, *, multiple: bool, name: str = "") -> tuple[int, ...]:
        """The numbers of the labels that the reply names, in order; at most one unless `multiple`.

        `name` is what the control is called: a line `name: X` answers, too.
        """
        for found in self._readings(reply[:_LONGEST_READ], multiple=multiple, name=name):
            if found is not None:
                return tuple(sorted(found)) if multiple or len(found) == 1 else ()
        return ()

    def _readings(self, reply: str, *, multiple: bool, name: str) -> Iterator[set[int] | None]:
        """The labels by each way of reading, the plainest first; None where it does not apply."""
        whole = self.exact(reply)
        yield None if whole is None else {whole}
        structured = find_value(reply)
        if structured is not None:
            yield self._of_json(structured, name)
        text = _without_fences(reply)
        lines = [line for line in text.splitlines() if re.search(r"\S", line)]
        yield self._marked(lines, name, multiple=multiple)
        yield self._listed(lines, multiple=multiple)
        yield self._first_line(lines, multiple=multiple)
        yield self._emphasized(text) if not multiple else None
        yield self._all_said(text, multiple=multiple)
        close = self._close_spelling(text)
        yield {close} if close is not None else set()

    def _of_json(self, value: Any, name: str) -> set[int] | None:
        """Labels in JSON's values; of an object, those under a key that is about labels."""
        if isinstance(value, dict):
            keys = [key for key in value if key.casefold() == name.casefold()] or [
                key for key in value if _LABEL_KEYS.fullmatch(key)
            ]
            ticked = [key for key, on in value.items() if on is True and self.exact(key) is not None]
            if ticked and not keys:
                return {number for key in ticked if (number := self.exact(key)) is not None}
            rest = [key for key in value if not _SUPPORTING_KEYS.search(key)]
            parts = [value[key] for key in keys or rest]
        else:
            parts = value if isinstance(value, list) else [value]
        found: set[int] = set()
        for part in parts:
            if isinstance(part, (dict, list)):
                found |= self._of_json(part, name) or set()
            elif part is not None and not isinstance(part, bool):
                number = self.exact(str(part))
                found |= self._assertions(str(part)) if number is None else {number}
        return found or None

    def _marked(self, lines: Sequence[str], name: str, *, multiple: bool) -> set[int] | None:
        """Labels in lines like `Label: X`. Of several lines that differ only a final one counts."""
        own = re.compile(rf"^\W*{re.escape(name)}\W{{0,3}}\s*[:=：]\s*(?P<rest>.*)$", re.I) if name else None
        readings: list[set[int]] = []
        for position, line in enumerate(lines):
            marked = (own and own.match(line)) or _MARKER.match(line)
            if not marked:
                continue
            rest = marked["rest"].strip(" *_`#")
            following = lines[position + 1 :]
            if not rest:
                items = [item for item in following if _BULLET.match(item)] if multiple else following[:1]
                answers = [_BULLET.sub("", item) for item in items]
                found = {
                    number for answer in answers for number in self._of_answer(answer, multiple=multiple)
                }
            else:
                found = self._of_answer(rest, multiple=multiple)
            if found and "final" in marked.re.groupindex and marked["final"]:
                return found
            if found:
                readings.append(found)
        if not readings:
            return None
        if multiple:
            return set().union(*readings)
        return readings[0] if all(found == readings[0] for found in readings) else set()

    def _of_answer(self, text: str, *, multiple: bool) -> set[int]:
        """The labels of what stands after `Label:`; an explanation behind the first does not count."""
        number = self.exact(text)
        if number is not None:
            return {number}
        explained = r"\s(?:[-–—]|because|since|as the|due to)\s|\s\(|[.!](?:\s|$)|。"
        lead = re.split(explained if multiple else rf"{explained}|[;；]", text, maxsplit=1)[0]
        number = self.exact(lead)
        return {number} if number is not None else self._assertions(lead, trusted=True) or self._near(lead)

    def _near(self, text: str) -> set[int]:
        close = self._close_spelling(text)
        return set() if close is None else {close}

    def _listed(self, lines: Sequence[str], *, multiple: bool) -> set[int] | None:
        """Labels that head lines: `- X`, `- X: why`, `- X: yes`; one that is answered with no is none.

        For a single choice this is an answer only where several labels head lines and all but one are denied.
        """
        found: set[int] = set()
        heads: set[int] = set()
        for line in lines:
            if not _BULLET.match(line) and ":" not in line:
                continue
            item = _BULLET.sub("", line)
            head, _, rest = re.sub(r"[*_`]", "", item).partition(":")
            if self.exact(head) is None:
                head, _, rest = re.sub(r"[*_`]", "", item).partition(" - ")
            number = self.exact(head)
            if number is None:
                continue
            heads.add(number)
            polarity = _POLARITY.match(rest)
            if not (polarity and polarity["no"]):
                found.add(number)
        if multiple:
            return found if heads else None
        if len(heads) < 2:
            return None
        return found if len(found) == 1 else set()

    def _first_line(self, lines: Sequence[str], *, multiple: bool) -> set[int] | None:
        """Labels of a first line, or sentence, that is plainly an answer; what follows explains it."""
        if not lines:
            return None
        line = _BULLET.sub("", lines[0])
        number = self.exact(line)
        if number is not None and not (multiple and len(lines) > 1 and self._only_labels(lines[1])):
            return {number}
        if multiple and len(lines) > 1 and all(self._only_labels(line) for line in lines):
            return {number for line in lines for number in self._assertions(line)}
        sentence = next(iter(_sentences(line)), "")
        lead = re.split(r"\s[-–—]\s|:|,", sentence, maxsplit=1)[0]
        number = self.exact(lead)
        if not multiple and number is not None and lead != sentence and not self._only_labels(sentence):
            return {number}
        found = self._assertions(sentence)
        if multiple:
            return found if found and self._only_labels(sentence) else None
        if len(found) != 1 or len(_words(sentence)) > _WORDS_OF_AN_ANSWER:
            return None
        return self._concluded(lines) or found

    def _only_labels(self, text: str) -> bool:
        """Whether the text consists of labels, and words that say nothing."""
        words = _words(text)
        named = {position for start, number in self._occurrences(words) for position in
                 range(start, start + len(self._spelled[number]))}  # fmt: skip
        rest = [word.folded for position, word in enumerate(words) if position not in named]
        return bool(named) and all(word in _WORDS_OF_A_FILLER for word in rest)

    def _emphasized(self, text: str) -> set[int] | None:
        """The one label that stands in bold or as code, where the others are mentioned only."""
        spans = re.findall(
            r"\*\*([^*\n]+)\*\*|__([^_\n]+)__|`([^`\n]+)`|\\boxed\{(?:\\text\{)?([^{}]+)\}", text
        )
        found = {self.exact(next(filter(None, groups))) for groups in spans} - {None}
        undecided = _UNDECIDED.search(_plain(text))
        return (
            {number for number in found if number is not None} if len(found) == 1 and not undecided else None
        )

    def _all_said(self, text: str, *, multiple: bool) -> set[int] | None:
        """Labels of all sentences; one label of several only from a sentence that concludes."""
        sentences = _sentences(text)
        together = {number for sentence in sentences for number in self._assertions(sentence)}
        if multiple or not together:
            return together or None
        mentioned = {
            number
            for sentence in sentences
            if _UNDECIDED.search(_plain(sentence))
            for _, number in self._occurrences(_words(sentence))
        }
        if len(together | mentioned) == 1:
            return together
        return self._concluded(sentences) or set()

    def _concluded(self, texts: Iterable[str]) -> set[int] | None:
        """The one label of the last sentence that concludes."""
        for sentence in reversed([sentence for text in texts for sentence in _sentences(text)]):
            if _CONCLUDING.search(_plain(sentence)) and (found := self._assertions(sentence)):
                return found if len(found) == 1 else None
        return None

    def _assertions(self, text: str, *, trusted: bool = False) -> set[int]:
        """The labels that a piece of text says are so. In a `trusted` piece every word may be a label."""
        plain = _plain(text)
        if _UNDECIDED.search(plain) or _QUESTION.search(text):
            return set()
        if self._written_numbers:
            text = re.sub(r"(?i)(\d)\s*(?:/|out of)\s*\d+(?:\.\d+)?(?: stars?| points?)?", r"\1", text)
        words = _words(text)
        found: set[int] = set()
        negated: set[int] = set()
        denied_until = -1
        for start, number in self._occurrences(words):
            end = start + len(self._spelled[number])
            if not trusted and self._is_weak(number) and not _answers(words, start, end):
                continue
            window = _clause_before(words, start)
            only = _NOT_ONLY.search(" ".join(window))
            joined = denied_until == start - 2 and words[start - 1].folded in _JOINING
            if (not only and any(word in _NEGATIONS for word in window)) or joined:
                denied_until = end - 1
                negated.add(number)
            else:
                found.add(number)
        opposites = {self._opposite[number] for number in negated if number in self._opposite}
        return (found | opposites) - (negated - found if not opposites else negated)

    def _occurrences(self, words: Sequence[_Word]) -> Iterator[tuple[int, int]]:
        """Where labels stand side by side, the longest at each place; every word counts for one label."""
        position = 0
        while position < len(words):
            for number in self._by_first.get(words[position].folded, ()):
                spelled = self._spelled[number]
                if tuple(word.folded for word in words[position : position + len(spelled)]) == spelled:
                    yield position, number
                    position += len(spelled) - 1
                    break
            position += 1

    def _is_weak(self, number: int) -> bool:
        spelled = self._spelled[number]
        return len(spelled) == 1 and (
            spelled[0] in _WEAK or (len(spelled[0]) == 1 and spelled[0].isalpha() and spelled[0].isascii())
        )

    def _opposites(self, by_words: dict[tuple[str, ...], int]) -> Iterator[tuple[int, int]]:
        """Pairs like Sarcastic and Not Sarcastic, Relevant and Irrelevant."""
        for words, number in by_words.items():
            candidates = [(prefix, *words) for prefix in ("not", "non", "no", "不", "非", "غير")]
            candidates += [
                (prefix + words[0], *words[1:]) for prefix in ("in", "im", "ir", "il", "un", "non")
            ]
            for candidate in candidates:
                if candidate in by_words:
                    yield number, by_words[candidate]
                    break

    def _close_spelling(self, text: str) -> int | None:
        """The one label that a short reply misspells: same first letter, one edit in five letters or more."""
        words = _words(text)
        if not words or len(words) > _WORDS_OF_A_SHORT_REPLY:
            return None
        if _UNDECIDED.search(_plain(text)) or _QUESTION.search(text):
            return None
        closest: dict[int, int] = {}
        for start in range(len(words)):
            if any(word in _NEGATIONS for word in _clause_before(words, start)):
                continue
            for end in range(start + 1, len(words) + 1):
                window = " ".join(word.folded for word in words[start:end])
                for target, number in self._misspellable.get(window[0], ()):
                    if abs(len(self._spelled[number]) - (end - start)) > 1:
                        continue
                    distance = _edits(window, target)
                    if distance is not None:
                        closest[number] = min(distance, closest.get(number, distance))
        ranked = sorted((distance, number) for number, distance in closest.items())
        return ranked[0][1] if ranked and (len(ranked) == 1 or ranked[0][0] < ranked[1][0]) else None


@functools.lru_cache(maxsize=512)
def vocabulary(labels: tuple[str, ...]) -> Vocabulary:
    """The vocabulary of these labels, made once."""
    return Vocabulary(labels)


def _edits(window: str, target: str) -> int | None:
    """The edits that make the words the label, where they are few for its length and no number differs."""
    allowed = 1 if len(target) < 9 else 2
    if abs(len(window) - len(target)) > allowed:
        return None
    distance = DamerauLevenshtein.distance(window, target, score_cutoff=allowed)
    if distance > allowed or re.findall(r"\d+", window) != re.findall(r"\d+", target):
        return None
    return int(distance)


def _answers(words: Sequence[_Word], start: int, end: int) -> bool:
    """Whether a word that mostly means something else stands where an answer stands."""
    word = words[start]
    one_letter = len(word.folded) == 1
    if one_letter and not word.written.isupper():
        return False
    ends_clause = end == len(words) or words[end].begins
    if word.begins and ends_clause:
        return True
    if start == 0 and not one_letter and word.folded in {"yes", "no", "true", "false"}:
        return word.folded != "no" or words[end].folded in _AFTER_A_PLAIN_NO
    if start > 0 and words[start - 1].folded in _CUES and (one_letter or ends_clause):
        return True
    return one_letter and word.folded not in "ai"


def _clause_before(words: Sequence[_Word], start: int) -> list[str]:
    """The few words before a position that belong to the same clause."""
    first = start
    while first > 0 and start - first < _NEGATION_WORDS_BEFORE and not words[first].begins:
        first -= 1
    return [word.folded for word in words[first:start]]


def _bare(text: str) -> str:
    """The text without case and what is wrapped around it: quotes, brackets, markdown, a full stop."""
    folded = " ".join(_folded(text).split())
    bare = re.sub(r"^[\s\"'“”‘’«»`*_#\[({]+|[\s\"'“”‘’«»`*_\])}.!,;:。！]+$", "", folded)
    return bare or folded


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return _ARABIC_MARKS.sub("", folded)


def _plain(text: str) -> str:
    """Words only, for patterns of several words."""
    return re.sub(r"[^\w\s]+", " ", re.sub(r"['’]", "", _folded(text)))


def _words(text: str) -> list[_Word]:
    """The words of a text without markdown and apostrophes; C, C++ and C# stay three words."""
    text = re.sub(r"(?<=\w)['\u2019](?=\w)|[*`]", "", unicodedata.normalize("NFKC", text))
    words: list[_Word] = []
    position = 0
    for match in sorted((*_WORD.finditer(text), *_EMOJI.finditer(text)), key=lambda match: match.start()):
        if match.start() < position:
            continue
        between = text[position : match.start()]
        begins = not words or bool(_BOUNDARY.search(between))
        words.append(_Word(_folded(match.group()), match.group(), begins, match.end()))
        position = match.end()
    return words


def _sentences(text: str) -> list[str]:
    """Sentences and lines, each with its end mark."""
    parts = re.split(r"(?<=[.!?])[\"'”)*_]*\s+|(?<=[。！？؟।])|\n+", text)
    return [part for part in parts if part and part.strip()]


def _without_fences(text: str) -> str:
    return re.sub(r"```[\w-]*\n?|~~~", "", text)
