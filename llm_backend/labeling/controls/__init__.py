"""The kinds of control that can be filled: what each asks of a model, and what it takes of its answer.

A kind is one module and one line of `CONTROLS`.
"""

from llm_backend.labeling.controls.base import Control, Finding, Form, Pick
from llm_backend.labeling.controls.choices import Choices
from llm_backend.labeling.controls.datetime import DateTime
from llm_backend.labeling.controls.labelled import Label
from llm_backend.labeling.controls.labels import Labels
from llm_backend.labeling.controls.number import Number
from llm_backend.labeling.controls.pairwise import Pairwise
from llm_backend.labeling.controls.rating import Rating
from llm_backend.labeling.controls.taxonomy import Taxonomy
from llm_backend.labeling.controls.textarea import TextArea

__all__ = ["CONTROLS", "Control", "Finding", "Form", "Label", "Pick"]

# By the tag in lower case.
CONTROLS: dict[str, type[Control]] = {
    kind.kind: kind
    for kind in (
        TextArea,
        Choices,
        Labels,
        Taxonomy,
        Rating,
        Number,
        DateTime,
        Pairwise,
    )
}
