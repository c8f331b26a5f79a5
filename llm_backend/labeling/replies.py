"""Replies → a value for each control that is to be filled, and how certain it is. Plain functions, no I/O.

A reply is read as the JSON that was asked for; what it lacks of that is matched as free text. Of several
replies the majority counts.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from llm_backend.labeling.controls import Control, Finding, Form, Pick
from llm_backend.labeling.controls.free_text import own_line
from llm_backend.labeling.json_spans import Located, find_object
from llm_backend.values import ControlValue, ControlValues, Reply


@dataclass(frozen=True)
class _Read:
    """A reply, and the JSON object that it is or holds if that has to do with the controls.

    `said` is what a control is looked for in that the JSON leaves out: all but the values of other controls.
    """

    reply: Reply
    json: Located | None
    said: str

    def member(self, control: Control) -> Located | None:
        """The control's JSON value."""
        return self.json.members.get(control.name) if self.json else None


def values_from_replies(
    controls: Sequence[Control], replies: Sequence[Reply], text: str, *, form: Form
) -> ControlValues:
    """What the controls are filled with: `text` is what the model has read, `controls` are those of the task.

    Texts are those of all replies, in order. Of everything else there is what more than half of the replies
    say, with the share that agreed as its score; of a single reply with logprobs, the probability of its
    tokens; else there is no score.
    """
    read = [_read(reply, controls) for reply in replies if reply.text.strip()]
    values: list[ControlValue] = []
    certainties: list[float] = []
    for control in controls:
        if not control.closed:
            texts = list(filter(None, (_text(control, one, controls, text, form) for one in read)))
            for value, _ in control.region_values(texts, text):
                values.append(ControlValue(control.name, control.kind, value))
            continue
        answers = [_findings(control, one, text) for one in read]
        scores = _shares(answers) if len(read) > 1 else _probabilities(control, answers, read)
        chosen = [pick for pick in scores if len(read) == 1 or (scores[pick] or 0.0) > 0.5]
        for value, picks in control.region_values(chosen, text):
            known = [score for pick in picks if (score := scores[pick]) is not None]
            score = round(min(known), 4) if len(known) == len(picks) else None
            values.append(ControlValue(control.name, control.kind, value, score))
        certainty = _certainty(control, answers, scores)
        certainties += [certainty] if certainty is not None else []
    return ControlValues(tuple(values), round(min(certainties), 4) if certainties else None)


def _read(reply: Reply, controls: Sequence[Control]) -> _Read:
    """The reply, with its JSON when that has a property of a control; keys may differ in case."""
    found = find_object(reply.text)
    if found is None:
        return _Read(reply, None, reply.text)
    names = {control.name.casefold(): control.name for control in controls}
    members = {
        names[key.casefold()]: value for key, value in found.members.items() if key.casefold() in names
    }
    if not members:
        return _Read(reply, None, reply.text)
    closed = {control.name.casefold() for control in controls if control.closed}
    others = [value.value for key, value in found.members.items() if key.casefold() not in closed]
    located = Located(found.value, found.start, found.end, members=members)
    return _Read(reply, located, "\n".join(_strings(others)))


def _text(control: Control, read: _Read, controls: Sequence[Control], text: str, form: Form) -> str:
    """The text for an open control. The response is the whole reply where that is not the JSON asked for."""
    member = read.member(control)
    reply = read.reply.text.strip()
    if member is not None and (form != "plain" or not control.plain):
        found = control.read(member.value, text)
    elif not control.plain:
        found = control.match(reply, text)
    else:
        return _without_lines(reply, control, controls) if form == "lines" else reply
    return str(found[0].pick) if found else ""


def _without_lines(reply: str, control: Control, controls: Sequence[Control]) -> str:
    """The reply without the lines that answer for the other controls."""
    names = "|".join(re.escape(other.name) for other in controls if other is not control)
    if names:
        reply = re.sub(rf"(?im)^[^\w\n]*(?:{names})\W{{0,3}}\s*[:=].*$\n?", "", reply).strip()
    return ("" if "\n" in reply else own_line(reply, control.name)) or reply


def _findings(control: Control, read: _Read, text: str) -> list[Finding]:
    """What a reply says of a control: its JSON property, else what its words say."""
    member = read.member(control)
    if member is not None and not member.complete:
        return []
    if member is None:
        return control.match(read.said, text)
    if isinstance(member.value, list) and len(member.value) == 1 and not control.several:
        return [Finding(found.pick, (0, *found.path)) for found in control.read(member.value[0], text)]
    return control.read(member.value, text)


def _strings(value: object) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _shares(answers: Sequence[Iterable[Finding]]) -> dict[Pick, float | None]:
    """The share of the replies that name each pick."""
    votes = Counter(pick for findings in answers for pick in dict.fromkeys(found.pick for found in findings))
    return {pick: count / len(answers) for pick, count in votes.items()}


def _probabilities(
    control: Control, answers: Sequence[Sequence[Finding]], read: Sequence[_Read]
) -> dict[Pick, float | None]:
    """The probability of each pick of the one reply, where its tokens are known."""
    probabilities: dict[Pick, float | None] = {}
    for findings, one in zip(answers, read, strict=True):
        member = one.member(control)
        for found in findings:
            located = member.at(found.path) if member else None
            probabilities[found.pick] = _probability(located, one.reply, control) if located else None
    return probabilities


def _probability(located: Located, reply: Reply, control: Control) -> float | None:
    """The probability of the tokens that a value consists of; None where they do not fit the text.

    The quotes around a label are no part of it, but for the last one where a longer label begins the same:
    there it decides.
    """
    start, end = located.start, located.end
    if isinstance(located.value, str):
        longer = any(
            option != located.value and option.startswith(located.value) for option in control.options()
        )
        start, end = start + 1, end if longer else end - 1
    offset = "".join(token for token, _ in reply.token_logprobs).find(reply.text)
    if offset < 0 or not reply.token_logprobs:
        return None
    position, logprob, covered = -offset, 0.0, False
    for token, token_logprob in reply.token_logprobs:
        if position < end and position + len(token) > start:
            logprob += token_logprob
            covered = True
        position += len(token)
    return min(1.0, math.exp(logprob)) if covered else None


def _certainty(
    control: Control, answers: Sequence[Sequence[Finding]], scores: dict[Pick, float | None]
) -> float | None:
    """How certain a control is: as its least certain label. Replies that differ all the way count, too."""
    known = [score for score in scores.values() if score is not None]
    if not known or len(known) < len(scores):
        return None
    if len(answers) == 1:
        return min(known)
    if control.several:
        return min(max(share, 1 - share) for share in known)
    return max(*known, sum(not findings for findings in answers) / len(answers))
