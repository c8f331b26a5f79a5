"""All that shapes the answers of a request, fixed at its start, and the steps that it takes for one task.

A plan is made from what is stored of a project, so that a batch goes on with the prompt and the parameters it
began with, in any process.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from llm_backend.asking.prompts import build_messages, controls_message, sections_of
from llm_backend.errors import PicturesRefusedError
from llm_backend.label_studio.files import LabelStudio
from llm_backend.label_studio.regions import build_prediction
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.controls import Control, response_format
from llm_backend.labeling.replies import Form, values_from_replies
from llm_backend.labeling.task_data import variable
from llm_backend.parameters import parse_extra_params, resolve_parameters
from llm_backend.reading import TAGS, FileReader, Reading, readable, show
from llm_backend.settings import PROJECT_ROOT, Settings
from llm_backend.values import Completion, CompletionRequest, Json, Parameters

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Plan:
    """The same for each task of a request. Without a prompt it has a version, but cannot be followed."""

    config: LabelingConfig
    parameters: Parameters
    prompt: str | None
    response_format: str
    extra_params: Json
    reading: Any
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
            config.digest,
            repr(self.reading),
            self.form,
            sorted(_sections().items()) if self.form != "plain" else None,
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
        usual = all(control.name == self.config.response or control.kind == "choices" for control in controls)
        return "plain" if usual else "lines"

    def asking(
        self, data: Json, reader: FileReader, ask: Callable[[CompletionRequest], Answered]
    ) -> Answered:
        """What `ask` gives for a task with this data. Where the model refuses pictures, it gets their text.

        Raises:
            BackendError: what `completion_request` and `ask` raise.
        """
        read = self._read(data, reader)
        try:
            return ask(self._request(data, reader, read))
        except PicturesRefusedError:
            if read.without_pictures is None:
                raise
            return ask(self._request(data, reader, read.without_pictures()))

    def completion_request(self, data: Json, reader: FileReader) -> CompletionRequest:
        """What to ask for a task with this data; fetches the files that it names.

        Raises:
            InputError: the task lacks what the labeling config reads, or a file cannot be had or read.
            AddressRefusedError: the task names an address that may not be reached.
            PromptError: a template names fields that the task does not have.
        """
        return self._request(data, reader, self._read(data, reader))

    def _request(self, data: Json, reader: FileReader, read: Reading) -> CompletionRequest:
        config, parameters = self.config, self.parameters
        controls = self._controls(data, reader)
        labels = config.labels
        if any(control is not own for control, own in zip(controls, config.controls, strict=True)):
            labels = replace(config, controls=controls).labels
        messages = build_messages(
            parameters,
            self.prompt or "",
            read,
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
        quotes = any(control.kind == "labels" for control in controls)
        text = self._read(data, reader).text if quotes else ""
        values = values_from_replies(controls, completion.replies, text, form=self.form)
        return build_prediction(self.config, self.prompt or "", values, self.model_version)

    def _read(self, data: Json, reader: FileReader) -> Reading:
        source = self.config.source
        return TAGS[source.tag].read(source, data, self.reading, reader.files_for(self.label_studio))

    def _controls(self, data: Json, reader: FileReader) -> tuple[Control, ...]:
        """The controls as the task shows them: some of their labels, or both sides, stand in its data."""
        files = reader.files_for(self.label_studio)
        return tuple(
            control.for_task(data, lambda source: show(source, data, files))
            for control in self.config.controls
        )


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

    `label_studio` is where the files are that its tasks name (`label_studio_for`).

    Raises:
        LabelingConfigError: the labeling config cannot work.
        ExtraParamsError: the extra params cannot be.
    """
    parameters = resolve_parameters(settings, parse_extra_params(extra_params))
    config = parse_labeling_config(label_config, settings.prompt_prefix, settings.fill, readable=readable())
    return Plan(
        config=config,
        parameters=parameters,
        prompt=prompt or parameters.default_prompt,
        response_format=settings.response_format,
        extra_params=extra_params,
        reading=TAGS[config.source.tag].options(settings),
        label_studio=label_studio,
    )
