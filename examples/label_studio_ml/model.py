"""For whoever runs label-studio-ml 2.x as the host: a class that is a subclass of both base classes.

Put this repository's root on PYTHONPATH and start label-studio-ml with this folder.
"""

from typing import Any

from label_studio_ml.model import LabelStudioMLBase

import model


class InteractiveLLM(model.InteractiveLLM, LabelStudioMLBase):
    """The model of this repository, as label-studio-ml 2.x wants it."""

    def get(self, key: str) -> Any:
        """label-studio-ml asks for `model_version` this way."""
        return self.model_version if key == "model_version" else None
