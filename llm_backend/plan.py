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

from llm_backend.errors import PicturesRefusedError
from llm_backend.inputs import FileReader, ImageOptions, LabelStudio, object_field, read_input
from llm_backend.labeling_config import LabelingConfig, parse_labeling_config
from llm_backend.parameters import parse_extra_params, resolve_parameters
from llm_backend.prompts import build_messages
from llm_backend.regions import build_prediction
from llm_backend.replies import values_from_replies
from llm_backend.settings import Settings
from llm_backend.values import Completion, CompletionRequest, Json, Parameters

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Plan:
    """The same for each task of a request. Without a prompt it has a version, but cannot be followed."""

    config: LabelingConfig
    parameters: Parameters
    prompt: str | None
    dialogue_format: str
    extra_params: Json
    images: ImageOptions
    label_studio: LabelStudio | None = None

    @property
    def model_version(self) -> str:
        """The model's name and a hash of whatever shapes the answer; no secret goes in."""
        return f"{self.parameters.model}-{self.fingerprint[:8]}"

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
            config.object_tag,
            config.object_value,
            config.response,
            *(asdict(self.images).values() if config.object_tag == "Image" else ()),
            *(
                [choices.name, choices.multiple, [label.value for label in choices.labels]]
                for choices in config.choices
            ),
        ]
        return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()

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
        messages = build_messages(
            parameters,
            self.prompt or "",
            read_input(
                config,
                data,
                dialogue_format=self.dialogue_format,
                images=self.images,
                label_studio=self.label_studio,
                reader=reader,
            ),
            labels=config.labels,
            object_field=object_field(config),
        )
        return CompletionRequest(parameters.model, messages, parameters.temperature, parameters.num_responses)

    def prediction(self, completion: Completion) -> Json:
        """The prediction that the replies give."""
        values = values_from_replies(self.config, completion.replies)
        return build_prediction(self.config, self.prompt or "", values, self.model_version)


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
        config=parse_labeling_config(label_config, settings.prompt_prefix),
        parameters=parameters,
        prompt=prompt or parameters.default_prompt,
        dialogue_format=settings.dialogue_format,
        extra_params=extra_params,
        images=ImageOptions(
            image_input=settings.image_input,
            ocr_languages=settings.ocr_languages,
            max_side=settings.image_max_side,
            max_pages=settings.image_max_pages,
        ),
        label_studio=label_studio,
    )
