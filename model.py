"""The model: how a request of Label Studio becomes a prediction. Read `InteractiveLLM.predict` first."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from label_studio_sdk.label_interface.interface import LabelInterface

from llm_backend.errors import LabelingConfigError
from llm_backend.inputs import object_field, read_input
from llm_backend.labeling_config import LabelingConfig, parse_labeling_config
from llm_backend.ml_base import LabelStudioMLBase
from llm_backend.parameters import (
    check_address,
    parse_extra_params,
    require_settings,
    resolve_parameters,
)
from llm_backend.prompts import build_messages
from llm_backend.regions import build_prediction, empty_prediction
from llm_backend.replies import values_from_replies
from llm_backend.services import Services, services_of_this_process
from llm_backend.storage import Project
from llm_backend.values import CompletionRequest, Json, Parameters

_SUBMITTED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that shapes the answers of one request, the same for each of its tasks."""

    config: LabelingConfig
    parameters: Parameters
    prompt: str
    model_version: str


class InteractiveLLM(LabelStudioMLBase):
    """Answers the prompt that a person typed, or the one the project used last, with an LLM."""

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        *,
        services: Services | None = None,
    ) -> None:
        self._services = services or services_of_this_process()
        self._settings = self._services.settings
        super().__init__(project_id, label_config)

    def predict(
        self, tasks: Sequence[Json], context: Json | None = None, **kwargs: Any
    ) -> list[Json | list[Json]]:
        """One entry per task, in order. With a context the request is interactive: one task, a person waits.

        Raises:
            BackendError: the request as a whole cannot be answered; the reason says what to do.
        """
        config, parameters = self.config, self.parameters
        prompt = _typed_prompt(config, context) or self._project.prompt or parameters.default_prompt
        if not prompt:
            return [empty_prediction(self.model_version)] if context else [[] for _ in tasks]
        require_settings(parameters)
        plan = Plan(config, parameters, prompt, self._version(prompt))
        if not context:
            return self._services.batches.run(tasks, functools.partial(self._predict_one, plan))
        predictions: list[Json | list[Json]] = [self._predict_one(plan, task) for task in tasks]
        if self._settings.remember_prompt == "used":
            self._services.storage.remember_prompt(self.project_id, prompt)
        return predictions

    def fit(self, event: str, data: Json, **kwargs: Any) -> Json:
        """Remembers the prompt of a submitted annotation. Only a project known from `/setup` has a memory."""
        if event not in _SUBMITTED or self.label_config is None:
            return {}
        annotations = data.get("annotation")
        for annotation in annotations if isinstance(annotations, list) else [annotations]:
            if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
                prompt = _typed_prompt(self.config, annotation)
                if prompt:
                    self._services.storage.remember_prompt(self.project_id, prompt)
        return {}

    def set_extra_params(self, extra_params: Any) -> None:
        """Checks and keeps what `/setup` brought, so that the project's predictions use it.

        Raises:
            BackendError: the labeling config or the extra params cannot work, or a setting is missing.
        """
        extra = parse_extra_params(extra_params)
        config, parameters = self.config, resolve_parameters(self._settings, extra)
        require_settings(parameters)
        check_address(parameters, self._settings)
        self._extra_params = extra.as_json()
        if self.project_id:
            self._services.storage.remember_setup(
                self.project_id, config.interface.config, self._extra_params
            )
            self.__dict__.pop("_project", None)

    @property
    def label_config(self) -> str | None:
        """The labeling config of the request, else the one that `/setup` brought."""
        return self._label_config or self._project.label_config

    @property
    def label_interface(self) -> LabelInterface:
        """The labeling config as label-studio-sdk parses it."""
        return self.config.interface

    @property
    def extra_params(self) -> Json:
        """The extra params of this `/setup`, else those that the project's last one brought."""
        if self._extra_params is None:
            return self._project.extra_params or {}
        return self._extra_params

    @property
    def model_version(self) -> str:
        """The version that predictions have which use the project's present prompt."""
        return self._version(self._project.prompt or self.parameters.default_prompt)

    @functools.cached_property
    def config(self) -> LabelingConfig:
        """What the labeling config asks for."""
        if not self.label_config:
            raise LabelingConfigError("There is no labeling config: connect the model in Label Studio again")
        return parse_labeling_config(self.label_config, self._settings.prompt_prefix)

    @property
    def parameters(self) -> Parameters:
        """What completions are made with: the environment, overridden by the extra params."""
        return resolve_parameters(self._settings, parse_extra_params(self.extra_params))

    @functools.cached_property
    def _project(self) -> Project:
        return self._services.storage.project(self.project_id) if self.project_id else Project()

    def _predict_one(self, plan: Plan, task: Json) -> Json:
        """Reads the task, asks the LLM, and turns its replies into a prediction."""
        config, parameters = plan.config, plan.parameters
        read = read_input(config, task["data"], dialogue_format=self._settings.dialogue_format)
        messages = build_messages(
            parameters, plan.prompt, read, labels=config.labels, object_field=object_field(config)
        )
        completion = self._services.providers.complete(
            parameters.endpoint,
            CompletionRequest(parameters.model, messages, parameters.temperature, parameters.num_responses),
        )
        values = values_from_replies(config, completion.replies)
        return build_prediction(config, plan.prompt, values, plan.model_version)

    def _version(self, prompt: str | None) -> str:
        """The model's name and a hash of whatever shapes the answer; no secret goes in."""
        config, parameters = self.config, self.parameters
        endpoint = parameters.endpoint
        template = parameters.prompt_template if parameters.use_internal_prompt_template else None
        shapes = [
            endpoint.provider,
            endpoint.base_url,
            endpoint.deployment_name,
            endpoint.api_version,
            endpoint.model_path,
            parameters.model,
            parameters.temperature,
            parameters.num_responses,
            prompt,
            prompt == parameters.default_prompt,
            template,
            self._settings.dialogue_format,
            config.object_tag,
            config.object_value,
            config.response,
            [[choices.name, choices.multiple, [label.value for label in choices.labels]]
             for choices in config.choices],
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
        return f"{parameters.model}-{digest[:8]}"


def _typed_prompt(config: LabelingConfig, context: Json | None) -> str | None:
    """The prompt in the regions of a context or an annotation: of several submissions the last one counts."""
    regions = context.get("result") if context else None
    typed = [
        text
        for region in regions or ()
        if isinstance(region, dict) and region.get("from_name") == config.prompt
        for text in _texts(region.get("value"))
    ]
    return next((text for text in reversed(typed) if text.strip()), None)


def _texts(value: Any) -> list[str]:
    """The texts of a TextArea region's value, which holds one or a list."""
    text = value.get("text") if isinstance(value, dict) else None
    return [item for item in (text if isinstance(text, list) else [text]) if isinstance(item, str)]
