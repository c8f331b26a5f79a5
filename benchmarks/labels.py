"""Measures schema, parsing and regions of a task, and how many replies of the embedded model give labels.

`python -m benchmarks.labels` does both. The second part asks the embedded model 800 times and takes minutes.
"""

import json
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from llm_backend.asking.question import labels_of, make_question
from llm_backend.asking.shape import Shape, Shapes
from llm_backend.reading import FileReader
from llm_backend.services import make_services
from llm_backend.settings import PROJECT_ROOT, load_settings
from llm_backend.values import Completion, Json, Reply

_ROUNDS = 200
_TEXTS = 200
_EXAMPLES = ("text-classification", "response-evaluation", "chat-fine-tuning", "document-images")
_WORD_LENGTH = 8


def run() -> None:
    """Prints the milliseconds that one task costs, in JSON and in free text."""
    for name in _EXAMPLES:
        config = (PROJECT_ROOT / "examples" / name / "label_config.xml").read_text()
        for fill in ("default", "all"):
            _report(f"{name}, FILL={fill}", config, fill)
    _report("500 choices and a taxonomy of 2,000 nodes", _large_config(), "all")


def run_embedded() -> None:
    """Prints how many of 200 short texts get labels of the list from the embedded model, in each mode."""
    single = _choices_config("single", ("Positive", "Negative", "Neutral"))
    multiple = _choices_config("multiple", ("Food", "Service", "Price", "Noise"))
    for kind, config in (("single", single), ("multiple", multiple)):
        for response_format in ("json", "text"):
            named, asked, seconds = _labelled(config, response_format)
            print(
                f"{kind:8} choice, {response_format:4} mode: {named} of {asked} replies give labels of the "
                f"list ({100 * named / asked:.0f} %), {seconds:.0f} s"
            )


def _report(title: str, config: str, fill: str) -> None:
    settings = _settings(FILL=fill, RESPONSE_FORMAT="auto")
    data: Json = {"text": "I love it when my computer crashes", "image": "x", "dialogue": [{"role": "user", "content": "Hi"}]}  # fmt: skip # noqa: E501
    shape = Shapes(settings).shape(config, {}, "What is it about?")
    json_reply = Reply(json.dumps(dict(_answers(shape))))
    text_reply = Reply(
        "Let me see. It is about computers, which is neither good nor bad.\nLabel: " + _label(shape)
    )
    by_form = {
        "JSON": _mean_milliseconds(settings, config, data, json_reply),
        "free text": _mean_milliseconds(settings, config, data, text_reply),
    }
    figures = ", ".join(f"{milliseconds:.3f} ms in {form}" for form, milliseconds in by_form.items())
    print(f"schema, parsing and regions: {figures}: {title}")


def _mean_milliseconds(settings: Any, config: str, data: Json, reply: Reply) -> float:
    """The mean over the tasks of one batch. The shape is its own, so the time includes what is built once.

    Reading a picture is another matter: an Image is read as a Text.
    """
    shape = Shapes(settings).shape(config, {}, "What is it about?")
    if shape.source.tag == "Image":
        shape = replace(shape, source=replace(shape.source, tag="Text"), reading=None)
    completion = Completion((reply,))
    reader = FileReader(settings)
    taken = []
    for number in range(_ROUNDS):
        task = {**data, "number": number}
        started = time.perf_counter()
        prediction = make_question(shape, task, reader, None).prediction(completion)
        taken.append((time.perf_counter() - started) * 1000)
        assert prediction["result"]
    return statistics.mean(taken)


def _answers(shape: Shape) -> Iterator[tuple[str, Any]]:
    """An answer for each control of the shape."""
    for control in shape.controls:
        options = control.options()
        if control.kind == "textarea":
            yield control.name, "It is about a computer, and the author is not happy. " * 5
        elif options:
            yield control.name, list(options[-3:]) if control.several else options[-1]
        else:
            yield control.name, 3


def _label(shape: Shape) -> str:
    labels = labels_of(shape.controls)
    return labels[-1] if labels else "Relevance > Irrelevant"


def _large_config() -> str:
    """A response, 500 choices, and a taxonomy of 2,000 nodes in three levels."""
    chance = random.Random(1)

    def name() -> str:
        return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=_WORD_LENGTH))

    choices = "".join(f'<Choice value="{name()} {number}"/>' for number in range(500))
    branches = []
    for _ in range(20):  # 20 + 20 * 9 + 20 * 9 * 10 nodes
        twigs = ""
        for _ in range(9):
            leaves = "".join(f'<Choice value="{name()}"/>' for _ in range(10))
            twigs += f'<Choice value="{name()}">{leaves}</Choice>'
        branches.append(f'<Choice value="{name()}">{twigs}</Choice>')
    return (
        '<View><Text name="text" value="$text"/><TextArea name="prompt" toName="text"/>'
        '<TextArea name="response" toName="text"/>'
        f'<Choices name="choices" toName="text" choice="multiple">{choices}</Choices>'
        f'<Taxonomy name="tree" toName="text">{"".join(branches)}</Taxonomy></View>'
    )


def _choices_config(choice: str, labels: tuple[str, ...]) -> str:
    ticks = "".join(f'<Choice value="{label}"/>' for label in labels)
    return (
        '<View><Text name="text" value="$text"/><TextArea name="prompt" toName="text"/>'
        f'<Choices name="labels" toName="text" choice="{choice}">{ticks}</Choices></View>'
    )


def _labelled(config: str, response_format: str) -> tuple[int, int, float]:
    """How many replies give labels, of how many, and the seconds it took."""
    settings = _settings(RESPONSE_FORMAT=response_format)
    prompt = "Label this restaurant review. Answer with the labels that fit, out of: {labels}"
    services = make_services(settings)
    shapes, extra = services.shapes, {"use_internal_prompt_template": False}
    shape = shapes.shape(config, extra, "Review: {text}\n\n" + prompt)
    endpoint = shapes.parameters(extra).endpoint

    def is_labelled(text: str) -> bool:
        question = make_question(shape, {"text": text}, services.reader, None)
        prediction = question.prediction(services.providers.complete(endpoint, question.request))
        assert shapes.config(config).interface.validate_prediction(prediction)
        return any(region["from_name"] == "labels" for region in prediction["result"])

    texts = _short_texts()
    started = time.monotonic()
    try:
        with ThreadPoolExecutor(2) as pool:  # the embedded model answers two at a time
            named = sum(pool.map(is_labelled, texts))
    finally:
        services.close()
    return named, len(texts), time.monotonic() - started


def _short_texts() -> list[str]:
    """200 texts of one or two sentences, the same each time."""
    chance = random.Random(2)
    subjects = (
        "The soup",
        "Our waiter",
        "The bill",
        "The music",
        "The table",
        "Dessert",
        "The wine",
        "Parking",
    )
    verdicts = (
        "was wonderful",
        "was a disappointment",
        "was as expected",
        "could not have been better",
        "ruined it",
    )
    ends = ("", "We will be back.", "Never again.", "Who knows why.", "My friends agreed.")
    return [
        f"{chance.choice(subjects)} {chance.choice(verdicts)}. {chance.choice(ends)}".strip()
        for _ in range(_TEXTS)
    ]


def _settings(**variables: str) -> Any:
    folder = TemporaryDirectory()
    return load_settings(
        {"OPENAI_PROVIDER": "embedded", "MODEL_DIR": folder.name, "LLM_TIMEOUT": "300", **variables},
        env_file=None,
    )


if __name__ == "__main__":
    run()
    run_embedded()
