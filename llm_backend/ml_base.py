"""LabelStudioMLBase with the public contract of label-studio-ml 2.x, over label-studio-sdk.

label-studio-ml 2.x is published on GitHub only; the release on PyPI is older and cannot be installed
beside a current Flask. A subclass of this class runs here, and under 2.x with a small adapter.
"""

from collections.abc import Sequence
from typing import Any

from label_studio_sdk.label_interface.interface import LabelInterface

from llm_backend.values import Json, Usage


class LabelStudioMLBase:
    """One model for one request. `project_id` is what Label Studio sends as `project`.

    `usage` is what its last `predict` came to.
    """

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        self._label_config = label_config
        self._extra_params: Json | None = None
        self.usage = Usage()
        self.setup()

    @property
    def label_config(self) -> str | None:
        """The labeling config's XML, or None when the request brought none."""
        return self._label_config

    @property
    def label_interface(self) -> LabelInterface:
        """The labeling config as label-studio-sdk parses it."""
        return LabelInterface(self.label_config or "<View/>")

    @property
    def extra_params(self) -> Json:
        """What the model page's extra params hold."""
        return self._extra_params or {}

    def set_extra_params(self, extra_params: Any) -> None:
        """Takes the extra params that `/setup` brought: an object, or a JSON string of one."""
        self._extra_params = extra_params or {}

    def set_label_studio(self, url: str, token: str) -> None:
        """Takes the address of Label Studio and the token that `/setup` brought."""

    @property
    def model_version(self) -> str:
        """Names what shapes the predictions. Label Studio asks again when it changes."""
        raise NotImplementedError

    def setup(self) -> None:
        """Called at the end of `__init__`."""

    def predict(self, tasks: Sequence[Json], context: Json | None = None, **kwargs: Any) -> list[Any]:
        """One entry per task, in order: a prediction, or an empty list for none."""
        raise NotImplementedError

    def fit(self, event: str, data: Json, **kwargs: Any) -> Json:
        """Called for every webhook event, with its payload."""
        raise NotImplementedError
