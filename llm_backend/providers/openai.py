"""OpenAI, and every server that speaks its Chat Completions API."""

from llm_backend.providers.provider import Provider
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Endpoint


class OpenAI(Provider):
    """Asked at OPENAI_BASE_URL, or at a project's own address."""

    name = "openai"
    title = "OpenAI"

    def endpoint(self, settings: Settings, extra: ExtraParams) -> Endpoint:
        """The address with the key that belongs to it."""
        own = settings.openai_base_url
        base_url = extra.base_url or own
        key = self.api_key(settings, extra, at_own_address=base_url == own)
        return Endpoint(self.name, base_url, key, from_project=base_url != own)
