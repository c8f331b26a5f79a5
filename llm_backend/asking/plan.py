"""All that shapes the answers of a request, fixed at its start, and the steps that it takes for one task.

A plan is made from what is stored of a project, so that a batch goes on with the prompt and the parameters it
began with, in any process.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from llm_backend.asking.prompts import build_messages, controls_message, sections_of
from llm_backend.errors import PicturesRefusedError
from llm_backend.label_studio.regions import build_prediction
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.controls import Control, Form
from llm_backend.labeling.replies import values_from_replies
from llm_backend.labeling.schema import response_format
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import variable
from llm_backend.parameters import parse_extra_params, resolve_parameters
from llm_backend.reading import READABLE, FileReader, ImageOptions, LabelStudio, read_input
from llm_backend.settings import PROJECT_ROOT, Settings
from llm_backend.values import Completion, CompletionRequest, Json, Parameters, TaskInput

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Plan:
    """The same for each task of a request. Without a prompt it has a version, but cannot be followed."""

    config: LabelingConfig
    parameters: Parameters
    prompt: str | None
    dialogue_format: str
    response_format: str
    extra_params: Json
    images: ImageOptions
    label_studio: LabelStudio | None = None

    @property
    def model_version(self) -> str:
        """The model's name and a hash of whatever shapes the answer; no secret goes in."""
        return f"{self.parameters.model}-{self.fingerprint[:8]}"

    @property
    def pinned_params(self) -> Json:
        """Extra params that give these parameters again, also when the environment's have changed since."""
        parameters = self.parameters
        pinned = self.extra_params | {
            "temperature": parameters.temperature,
            "num_responses": parameters.num_responses,
            "prompt_template": parameters.prompt_template,
            "use_internal_prompt_template": parameters.use_internal_prompt_template,
        }
        if parameters.default_prompt:
            pinned["default_prompt"] = parameters.default_prompt
        if parameters.endpoint.provider in ("openai", "ollama"):
            pinned["model"] = parameters.model
        return pinned

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex digest of whatever shapes the answer."""
        config, parameters = self.config, self.parameters
        endpoint = parameters.endpoint
        template = parameters.prompt_template if parameters.use_internal_prompt_template else None
        shapes = [
            endpoint.provider,
            endpoint.base_url,
            endpoint.deployment_name,
            endpoint.api_version,
            Path(endpoint.model_path).name,
            parameters.model,
            parameters.temperature,
            parameters.num_responses,
            self.prompt,
            self.prompt == parameters.default_prompt,
            template,
            self.dialogue_format,
            config.digest,
            *(asdict(self.images).values() if config.source.tag == "Image" else ()),
            self.form,
            [_sections(), *(control.description("", self.form) for control in config.controls)]
            if self.form != "plain"
            else None,
        ]
        return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()

    @functools.cached_property
    def form(self) -> Form:
        """How replies are asked for: as JSON where there is more to fill than a text."""
        controls = self.config.controls
        if self.response_format == "json":
            return "json"
        if self.response_format == "auto":
            return "json" if len(controls) > 1 or controls[0].closed else "plain"
        return "plain" if all(control.plain for control in controls) else "lines"

    def asking(
        self, data: Json, reader: FileReader, ask: Callable[[CompletionRequest], Answered]
    ) -> Answered:
        """What `ask` gives for a task with this data. Where the model refuses pictures, it gets their text.

        Raises:
            BackendError: what `completion_request` and `ask` raise.
        """
        try:
            return ask(self.completion_request(data, reader))
        except PicturesRefusedError:
            if self.images.image_input != "auto":
                raise
            with_text = replace(self, images=replace(self.images, image_input="ocr"))
            return ask(with_text.completion_request(data, reader))

    def completion_request(self, data: Json, reader: FileReader) -> CompletionRequest:
        """What to ask for a task with this data; fetches the files that it names.

        Raises:
            InputError: the task lacks what the labeling config reads, or a file cannot be had or read.
            AddressRefusedError: the task names an address that may not be reached.
            PromptError: a template names fields that the task does not have.
        """
        config, parameters = self.config, self.parameters
        controls = self._controls(data, reader)
        labels = config.labels
        if any(control is not own for control, own in zip(controls, config.controls, strict=True)):
            labels = replace(config, controls=controls).labels
        messages = build_messages(
            parameters,
            self.prompt or "",
            self._read(config.source, data, reader),
            labels=labels,
            object_field=variable(config.source.value),
        )
        if self.form != "plain":
            messages = (controls_message(_sections(), controls, data, form=self.form), *messages)
        judged = any(control.closed for control in controls)
        return CompletionRequest(
            parameters.model,
            messages,
            parameters.temperature,
            parameters.num_responses,
            response_format=response_format(controls) if self.form == "json" else None,
            logprobs=self.form == "json" and judged and parameters.num_responses == 1,
        )

    def prediction(self, data: Json, completion: Completion, reader: FileReader) -> Json:
        """The prediction that the replies give for the task with this data."""
        controls = self._controls(data, reader)
        quotes = any(control.quotes for control in controls)
        text = self._read(self.config.source, data, reader).text if quotes else ""
        values = values_from_replies(controls, completion.replies, text, form=self.form)
        return build_prediction(
            values,
            self.model_version,
            prompt=self.prompt or "",
            prompt_name=self.config.prompt,
            to_name=self.config.source.name,
        )

    def _read(self, source: Source, data: Json, reader: FileReader) -> TaskInput:
        return read_input(
            source,
            data,
            dialogue_format=self.dialogue_format,
            images=self.images,
            label_studio=self.label_studio,
            reader=reader,
        )

    def _controls(self, data: Json, reader: FileReader) -> tuple[Control, ...]:
        """The controls as the task shows them: some of their labels, or both sides, stand in its data."""
        return tuple(
            control.for_task(data, lambda source: self._show(source, data, reader))
            for control in self.config.controls
        )

    def _show(self, source: Source, data: Json, reader: FileReader) -> str:
        """The text that an object shows; of what is no text, its name."""
        if source.tag not in READABLE or source.tag == "Image":
            return source.name
        return self._read(source, data, reader).text


@functools.cache
def _sections() -> dict[str, str]:
    template = PROJECT_ROOT / "prompt_templates" / "controls.txt"
    return sections_of(template.read_text(encoding="utf-8"))


def make_plan(
    settings: Settings,
    label_config: str,
    extra_params: Json,
    prompt: str | None,
    label_studio: LabelStudio | None = None,
) -> Plan:
    """The plan for a project. Without a `prompt` the default prompt is taken.

    `label_studio` is where the files are that its tasks name (`inputs.label_studio_for`).

    Raises:
        LabelingConfigError: the labeling config cannot work.
        ExtraParamsError: the extra params cannot be.
    """
    parameters = resolve_parameters(settings, parse_extra_params(extra_params))
    return Plan(
        config=parse_labeling_config(label_config, settings.prompt_prefix, settings.fill, READABLE),
        parameters=parameters,
        prompt=prompt or parameters.default_prompt,
        dialogue_format=settings.dialogue_format,
        response_format=settings.response_format,
        extra_params=extra_params,
        images=ImageOptions(
            image_input=settings.image_input,
            ocr_languages=settings.ocr_languages,
            max_side=settings.image_max_side,
            max_pages=settings.image_max_pages,
        ),
        label_studio=label_studio,
    )
