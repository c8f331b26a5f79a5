"""Messages → completions. A provider is one module and its line in `PROVIDERS`.

Only this package imports `openai`, and this module does not: `settings` are checked where that would cost
a second and tens of megabytes. `Providers` in `clients` asks.
"""

from llm_backend.providers.azure import Azure
from llm_backend.providers.embedded import Embedded
from llm_backend.providers.ollama import Ollama
from llm_backend.providers.openai import OpenAI
from llm_backend.providers.provider import Provider

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        OpenAI(),
        Azure(),
        Ollama(),
        Embedded(),
    )
}
