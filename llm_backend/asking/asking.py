"""A task → its prediction, the same few lines for a person who waits and for a task of a batch."""

from dataclasses import dataclass

from llm_backend.asking.completions import Call, Completions, Purpose
from llm_backend.asking.question import make_question
from llm_backend.asking.shape import Access, Shape
from llm_backend.errors import PicturesRefusedError
from llm_backend.label_studio.regions import values_of
from llm_backend.operations.metrics import Metrics
from llm_backend.reading import FileReader
from llm_backend.storage.ledger import Proposal
from llm_backend.values import Completion, Json


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction, the completion that it was made of, and what it proposes, for the ledger."""

    prediction: Json
    completion: Completion
    proposal: Proposal


class Asking:
    """Shape → question → completion → prediction."""

    def __init__(self, completions: Completions, reader: FileReader, metrics: Metrics) -> None:
        self._completions = completions
        self._reader = reader
        self._metrics = metrics

    def predict(
        self, shape: Shape, access: Access, task: Json, *, purpose: Purpose, project: str = ""
    ) -> Predicted:
        """The prediction for a task, counted. Where the model refuses pictures, it gets their text.

        Whoever shows the prediction, or stores it, queues its `proposal` to be written. A failure is counted
        by whoever knows that it is final.

        Raises:
            RateLimitedError: the endpoint asks to slow down; only for a batch.
            BackendError: the task cannot be read, or nothing was answered.
        """
        task_id = task_id_of(task)
        call = Call(purpose, access.endpoint, project, task_id)
        question = make_question(shape, task["data"], self._reader, access.label_studio)
        try:
            completion = self._completions.get(question, call)
        except PicturesRefusedError:
            if question.without_pictures is None:
                raise
            question = question.without_pictures()
            completion = self._completions.get(question, call)
        prediction = question.prediction(completion)
        self._metrics.task("predicted")
        proposal = Proposal(
            project=project,
            task_id=task_id,
            purpose=purpose.value,
            model_version=shape.model_version,
            prompt=shape.prompt or "",
            proposed=values_of(shape.controls, prediction["result"]),
            score=prediction.get("score"),
        )
        return Predicted(prediction, completion, proposal)


def task_id_of(task: Json) -> int | None:
    """Label Studio's number of the task; None for what else a client may send."""
    task_id = task.get("id")
    if not isinstance(task_id, int) or isinstance(task_id, bool):
        return None
    return task_id if 0 <= task_id < 2**63 else None
