"""What is particular about a provider, for a project's parameters and for those who ask it."""

from typing import TYPE_CHECKING, ClassVar

from llm_backend.errors import ExtraParamsError
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Endpoint

if TYPE_CHECKING:
    import httpx2
    import openai


class Provider:
    """A provider that speaks the Chat Completions API; a subclass says what is different about it.

    OPENAI_PROVIDER calls it by `name`, people read its `title`. `takes` are the extra params that this
    provider knows and some others do not. `not_honoured` is what all its models refuse or ignore: names as
    `faults.refused_parameter` gives them, and `pictures`. `uses_proxy` says whether the proxies of the
    environment lead to it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset({"base_url"})
    not_honoured: ClassVar[frozenset[str]] = frozenset()
    uses_proxy: ClassVar[bool] = True

    def endpoint(self, settings: Settings, extra: ExtraParams) -> Endpoint:
        """Where the environment and a project's extra params say that completions are asked for.

        Raises:
            ExtraParamsError: the combination is impossible, or would send the environment's key elsewhere.
        """
        raise NotImplementedError

    def model(self, settings: Settings, extra: ExtraParams, endpoint: Endpoint) -> str:
        """The name of the model that is asked."""
        return extra.model or settings.openai_model

    def missing(self, endpoint: Endpoint) -> list[str]:
        """What the endpoint needs and has not got, each as a short phrase."""
        return [] if endpoint.api_key else ["OPENAI_API_KEY to be set"]

    def api_key(self, settings: Settings, extra: ExtraParams, *, at_own_address: bool) -> str:
        """The project's key, else the environment's, which goes only to the environment's own address.

        Raises:
            ExtraParamsError: the project names another provider or address, and brings no key.
        """
        if extra.api_key:
            return extra.api_key.get_secret_value()
        if settings.openai_provider != self.name or not at_own_address:
            raise ExtraParamsError(
                "Extra params: api_key must be given with another provider or address, "
                "because the server's own key goes only to its own"
            )
        return settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""

    def make_client(self, endpoint: Endpoint, http_client: "httpx2.Client") -> "openai.OpenAI":
        """The openai client for the endpoint, with its own retries off.

        Key and address are explicit: the client would take what is left out from anywhere.
        """
        from openai import OpenAI

        return OpenAI(
            api_key=endpoint.api_key, base_url=endpoint.base_url, http_client=http_client, max_retries=0
        )
