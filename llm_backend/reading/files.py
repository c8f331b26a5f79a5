"""Files that tasks name → pictures, the text in them, or texts. What is made of a file stays for minutes."""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from llm_backend.errors import InputError
from llm_backend.label_studio.files import LabelStudio, is_label_studio_file
from llm_backend.reading.cache import DiskCache
from llm_backend.reading.fetch import Fetched, Fetcher, content_type_of
from llm_backend.reading.ocr import read_text
from llm_backend.reading.pictures import Limits, prepare_pictures
from llm_backend.settings import Settings
from llm_backend.values import PicturePart

_CACHE_MAX_BYTES = 512 * 1024 * 1024
_FORM_OF_THE_CACHE = 1  # another number when what is kept, or how pictures are prepared, changes
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
_IS_BASE64 = re.compile(r";\s*base64\s*(;|$)", re.IGNORECASE)  # a parameter of a data URL
_TEXT_TYPES = re.compile(
    r"|text/.*|application/(json|xml|xhtml\+xml|x-ndjson|octet-stream)|binary/octet-stream"
)
_PICTURE_TYPES = re.compile(r"|image/.*|application/octet-stream|binary/octet-stream")


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """The files that a project's tasks name, read with what its Label Studio lets this server read."""

    cache: DiskCache
    fetcher: Fetcher
    unpacking: Executor
    max_bytes: int
    max_pixels: int
    label_studio: LabelStudio | None = None

    def pictures(self, values: Sequence[str], *, max_side: int, max_pages: int) -> tuple[PicturePart, ...]:
        """The pictures that the values of an Image name, as a model takes them, at most `max_pages`.

        `max_side` is in pixels.

        Raises:
            InputError: one of them cannot be had, or is not a picture within the limits.
            AddressRefusedError: the task names an address that may not be reached.
        """
        limits = Limits(max_side, max_pages, self.max_pixels)
        found: list[PicturePart] = []
        for value in values[:max_pages]:
            found += self._prepared(value, limits)
        return tuple(found[:max_pages])

    def text_in(self, pictures: Sequence[PicturePart], languages: Sequence[str]) -> str:
        """The text in the pictures, read by OCR.

        Raises:
            InputError: there is none, or OCR cannot be used.
        """
        seen = _digest("".join(picture.data_url for picture in pictures))
        what = ["ocr", _FORM_OF_THE_CACHE, seen, list(languages)]
        return self.cache.get(what, lambda: read_text(pictures, languages))

    def text_at(self, value: object) -> str:
        """The text at the address that is the value of a tag with `valueType="url"`.

        Raises:
            InputError: it is not an address, or there is no text within the limits.
            AddressRefusedError: the task names an address that may not be reached.
        """
        if not isinstance(value, str):
            raise InputError('A tag with valueType="url" needs an address in the task')
        address = value.strip()

        def make() -> str:
            with self._opened(address) as fetched:
                if not _TEXT_TYPES.fullmatch(fetched.content_type):
                    raise InputError("What is at the task's address is not a text, by its content type")
                return _decoded(fetched.file.read(), fetched.charset)

        return self.cache.get(["text", _FORM_OF_THE_CACHE, _digest(address), self._owner()], make)

    def _prepared(self, value: str, limits: Limits) -> tuple[PicturePart, ...]:
        def make() -> str:
            with self._opened(value, base64_too=True) as fetched:
                if not _PICTURE_TYPES.fullmatch(fetched.content_type):
                    raise InputError("What is at the task's address is not a picture, by its content type")
                pictures = self.unpacking.submit(prepare_pictures, fetched.file, limits).result()
            return json.dumps([picture.data_url for picture in pictures])

        what = ["pictures", _FORM_OF_THE_CACHE, _digest(value), self._owner(), repr(limits)]
        return tuple(PicturePart(url) for url in json.loads(self.cache.get(what, make)))

    @contextmanager
    def _opened(self, value: str, *, base64_too: bool = False) -> Iterator[Fetched]:
        """The file that the value names: inside the value itself, in Label Studio, or at an address."""
        label_studio = self.label_studio
        if value[:5].lower() == "data:":
            head, comma, body = value[5:].partition(",")
            if not comma:
                raise InputError("The data: URL in the task is broken")
            yield self._inside(body, head, is_base64=bool(_IS_BASE64.search(head)))
        elif re.match(r"https?://", value, re.IGNORECASE):
            with self.fetcher.fetch(value, label_studio) as fetched:
                yield fetched
        elif is_label_studio_file(value, label_studio):
            if label_studio is None:
                raise InputError(
                    "The file is in Label Studio: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, "
                    "a personal access token from Account & Settings"
                )
            with self.fetcher.fetch(label_studio.file_address(value), label_studio) as fetched:
                yield fetched
        elif base64_too and _BASE64.fullmatch(value):
            yield self._inside(value, "", is_base64=True)
        else:
            raise InputError(
                f"The task's value {value[:60]!r} is not the address of a file: use http(s)://, data:, "
                "s3://, gs://, azure-blob://, or an upload of Label Studio"
            )

    def _inside(self, text: str, media_type: str, *, is_base64: bool) -> Fetched:
        """The file that a data URL (RFC 2397) or a bare base64 text holds."""
        if (len(text) * 3 // 4 if is_base64 else len(text)) > self.max_bytes:
            raise InputError(
                f"The file in the task is larger than {self.max_bytes} bytes: FETCH_MAX_BYTES is the limit"
            )
        try:
            content = unquote_to_bytes(text)
            content = base64.b64decode(content) if is_base64 else content
        except ValueError:
            raise InputError("The base64 text in the task is broken") from None
        return Fetched(io.BytesIO(content), *content_type_of(media_type))

    def _owner(self) -> list[str]:
        """On whose behalf files are fetched: what one may read, another must not find in the cache."""
        if self.label_studio is None:
            return []
        return [self.label_studio.url, _digest(self.label_studio.token), self.label_studio.project_id]


class FileReader:
    """Gives tasks their files. One per process; opens and starts nothing before its first use."""

    def __init__(self, settings: Settings) -> None:
        folder = settings.model_dir / "pictures"
        self._fetcher = Fetcher(
            timeout=settings.fetch_timeout,
            max_bytes=settings.fetch_max_bytes,
            allowed_hosts=settings.allowed_hosts,
            folder=folder,
        )
        # Pictures are unpacked by a few threads only: each thread keeps some of the memory that it once used.
        self._unpacking = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures")
        self._public = TaskFiles(
            DiskCache(folder, max_bytes=_CACHE_MAX_BYTES),
            self._fetcher,
            self._unpacking,
            max_bytes=settings.fetch_max_bytes,
            max_pixels=settings.image_max_pixels,
        )

    def files_for(self, label_studio: LabelStudio | None) -> TaskFiles:
        """What the tasks of a project get their files from; without a Label Studio, public files only."""
        return replace(self._public, label_studio=label_studio)

    def close(self) -> None:
        """Ends threads and connections."""
        self._unpacking.shutdown(wait=False)
        self._fetcher.close()


def _decoded(content: bytes, charset: str | None) -> str:
    declared = (charset or "utf-8").lower()
    try:
        text = content.decode("utf-8-sig" if declared == "utf-8" else declared)
        text.encode("utf-8")  # some encodings give halves of surrogate pairs, which cannot be sent
    except (LookupError, ValueError):
        raise InputError(
            "The text at the task's address is not in UTF-8 or the encoding it declares"
        ) from None
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
