"""Azure OpenAI: a deployment in a resource, asked with an API version."""

from typing import TYPE_CHECKING

from llm_backend.providers.provider import Provider
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Endpoint

if TYPE_CHECKING:
    import httpx2
    import openai


class Azure(Provider):
    """The name of the deployment stands for the model."""

    name = "azure"
    title = "Azure OpenAI"
    takes = frozenset({"resource_endpoint", "deployment_name", "api_version"})

    def endpoint(self, settings: Settings, extra: ExtraParams) -> Endpoint:
        """The resource with the key that belongs to it, and the deployment."""
        own = settings.azure_resource_endpoint or ""
        base_url = extra.resource_endpoint or own
        return Endpoint(
            self.name,
            base_url,
            self.api_key(settings, extra, at_own_address=base_url == own),
            deployment_name=extra.deployment_name or settings.azure_deployment_name or "",
            api_version=extra.api_version or settings.azure_api_version,
            from_project=base_url != own,
        )

    def model(self, settings: Settings, extra: ExtraParams, endpoint: Endpoint) -> str:
        """The deployment's name."""
        return endpoint.deployment_name

    def missing(self, endpoint: Endpoint) -> list[str]:
        """Key, resource and deployment: Azure has no defaults for any of them."""
        missing = super().missing(endpoint)
        if not endpoint.base_url:
            missing.append("AZURE_RESOURCE_ENDPOINT to be set")
        if not endpoint.deployment_name:
            missing.append("AZURE_DEPLOYMENT_NAME to be set")
        return missing

    def make_client(self, endpoint: Endpoint, http_client: "httpx2.Client") -> "openai.OpenAI":
        """The client that asks `/openai/deployments/<name>/chat/completions?api-version=…`."""
        from openai import AzureOpenAI

        return AzureOpenAI(
            api_key=endpoint.api_key,
            azure_endpoint=endpoint.base_url,
            azure_deployment=endpoint.deployment_name,
            api_version=endpoint.api_version,
            http_client=http_client,
            max_retries=0,
        )
