"""Ollama, through its OpenAI-compatible address."""

from llm_backend.providers.provider import Provider
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Endpoint


class Ollama(Provider):
    """Ollama needs no key, so it never gets the environment's; it gives one reply whatever `n` says."""

    name = "ollama"
    title = "Ollama"
    not_honoured = frozenset({"n"})

    def endpoint(self, settings: Settings, extra: ExtraParams) -> Endpoint:
        """The address, below `/v1`, which people leave out."""
        own = _with_version(settings.ollama_endpoint)
        base_url = _with_version(extra.base_url or own)
        key = extra.api_key.get_secret_value() if extra.api_key else "ollama"
        return Endpoint(self.name, base_url, key, from_project=base_url != own)


def _with_version(url: str) -> str:
    return url if "/" in url.partition("://")[2] else f"{url}/v1"
