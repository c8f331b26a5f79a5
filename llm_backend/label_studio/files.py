"""Label Studio as the place where a task's files are: which values name one, and who may read it."""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from llm_backend.label_studio.project_key import parse_key
from llm_backend.operations.redaction import hide
from llm_backend.settings import Settings

Origin = tuple[str, str, int]

# Label Studio's addresses that give a file. A token goes to no other: with it, a task could read what else
# its owner may see.
_FILE_PATH = re.compile(
    r"/data/(upload|local-files)/.*|/storage-data/(uploaded|uploads)/.*"
    r"|/(tasks|projects)/\d+/(resolve|presign|file-proxy)/?|/api/projects/\d+/file-proxy/?"
)
_CLOUD_SCHEMES = ("s3://", "gs://", "azure-blob://")


@dataclass(frozen=True, slots=True)
class LabelStudio:
    """Where a project's Label Studio is and what it lets this server read.

    `url` may end in a path, when Label Studio is served below one, but not in a slash. An empty `token` means
    that there is none.
    """

    url: str
    token: str = field(default="", repr=False)
    project_id: str = ""

    @property
    def origin(self) -> Origin:
        """Scheme, host and port."""
        return origin_of(self.url)

    def file_address(self, value: str) -> str:
        """The address of the file that `is_label_studio_file` has recognised.

        Cloud storage goes through Label Studio, which has its keys (`/projects/<id>/resolve/`, whose
        `fileuri` is in URL-safe base64; Label Studio 1.23.2, io_storages/proxy_api.py).
        """
        if value.startswith(_CLOUD_SCHEMES):
            encoded = base64.urlsafe_b64encode(value.encode()).decode()
            return f"{self.url}/projects/{self.project_id}/resolve/?fileuri={encoded}"
        below = urlsplit(self.url).path
        path = value.removeprefix(below) if below else value
        return self.url + path

    def trusts(self, address: str) -> bool:
        """Whether the token may be sent to this address: a file of this very Label Studio."""
        parts = urlsplit(address)
        below = urlsplit(self.url).path
        path = unquote(parts.path)
        if origin_of(address) != self.origin or not path.startswith(f"{below}/") or ".." in path:
            return False
        return bool(_FILE_PATH.fullmatch(path.removeprefix(below)))


def label_studio_for(
    settings: Settings, project: str, *, setup_url: str | None, setup_token: str | None
) -> LabelStudio | None:
    """The Label Studio of a project, as the environment says, else as its `/setup` said; None without either.

    What `/setup` brought counts only while Basic auth guards it, and each token goes only where it was said
    to belong: the environment's to LABEL_STUDIO_URL, that of `/setup` to the address it came with.
    """
    hide(setup_token or "")
    key = parse_key(project)
    project_id = str(key.id) if key else ""
    said = LabelStudio(setup_url, setup_token or "", project_id) if setup_url else None
    if settings.basic_auth_user is None or (said and not said.origin[0]):
        said = None
    if settings.label_studio_url is None:
        return said
    token = settings.label_studio_api_key.get_secret_value() if settings.label_studio_api_key else ""
    own = LabelStudio(settings.label_studio_url, token, project_id)
    if not token and said and said.origin == own.origin:
        return LabelStudio(own.url, said.token, project_id)
    return own


def is_label_studio_file(value: str, label_studio: LabelStudio | None) -> bool:
    """Whether the value is how a task names a file that Label Studio stores or has access to."""
    if value.startswith(_CLOUD_SCHEMES):
        return True
    path = urlsplit(value).path if value.startswith("/") and not value.startswith("//") else ""
    below = urlsplit(label_studio.url).path if label_studio else ""
    return bool(_FILE_PATH.fullmatch(path.removeprefix(below)))


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an http or https address; empty and zero for what is none.

    Only plain addresses have an origin: with a backslash or an `@` in them, two parsers could see two hosts.
    """
    plain = re.match(
        r"(https?)://([\w.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(?=[/?#]|$)", url, re.IGNORECASE | re.ASCII
    )
    if not plain:
        return "", "", 0
    scheme = plain[1].lower()
    port = int(plain[3]) if plain[3] else (443 if scheme == "https" else 80)
    return scheme, plain[2].strip("[]").lower(), port
