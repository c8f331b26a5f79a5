"""Files that tasks name → pictures, their text, or texts: fetched once, prepared once, kept for minutes."""

import base64
import binascii
import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from llm_backend.errors import InputError
from llm_backend.label_studio.files import LabelStudio, is_label_studio_file
from llm_backend.reading.cache import DiskCache
from llm_backend.reading.fetch import Fetched, Fetcher
from llm_backend.reading.ocr import read_text
from llm_backend.reading.pictures import Limits, prepare_pictures
from llm_backend.settings import PROJECT_ROOT, Settings
from llm_backend.values import PicturePart

_CACHE_MAX_BYTES = 512 * 1024 * 1024
_FORM_OF_THE_CACHE = 1  # another number when what is kept, or how pictures are prepared, changes
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
_TEXT_TYPES = re.compile(
    r"|text/.*|application/(json|xml|xhtml\+xml|x-ndjson|octet-stream)|binary/octet-stream"
)
_PICTURE_TYPES = re.compile(r"|image/.*|application/octet-stream|binary/octet-stream")


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How an Image is read: all that shapes what the model gets of it."""

    image_input: Literal["auto", "vision", "ocr"]
    ocr_languages: tuple[str, ...]
    max_side: int
    max_pages: int


class FileReader:
    """Reads what tasks name. One per process; opens and starts nothing before its first use."""

    def __init__(self, settings: Settings) -> None:
        folder = settings.model_dir / "pictures"
        self._max_bytes = settings.fetch_max_bytes
        self._max_pixels = settings.image_max_pixels
        self._cache = DiskCache(folder, max_bytes=_CACHE_MAX_BYTES)
        self._fetcher = Fetcher(
            timeout=settings.fetch_timeout,
            max_bytes=settings.fetch_max_bytes,
            allowed_hosts=settings.allowed_hosts,
            folder=folder,
        )
        # Pictures are unpacked by a few threads only: each thread keeps some of the memory that it once used.
        self._unpacking = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures")

    def pictures(
        self, values: Sequence[str], images: ImageOptions, label_studio: LabelStudio | None
    ) -> tuple[PicturePart, ...]:
        """The pictures that the values of an Image name, as a model takes them, at most `images.max_pages`.

        Raises:
            InputError: one of them cannot be had, or is not a picture within the limits.
            AddressRefusedError: the task names an address that may not be reached.
        """
        found: list[PicturePart] = []
        for value in values[: images.max_pages]:
            found += self._prepared(value, images, label_studio)
        return tuple(found[: images.max_pages])

    def text_in(self, pictures: Sequence[PicturePart], languages: Sequence[str]) -> str:
        """The text in the pictures, read by OCR.

        Raises:
            InputError: there is none, or OCR cannot be used.
        """
        seen = _digest("".join(picture.data_url for picture in pictures))
        what = ["ocr", _FORM_OF_THE_CACHE, seen, list(languages)]
        return self._cache.get(what, lambda: read_text(pictures, languages))

    def text_at(self, value: object, label_studio: LabelStudio | None) -> str:
        """The text at the address that is the value of a tag with `valueType="url"`.

        Raises:
            InputError: it is not an address, or there is no text within the limits.
            AddressRefusedError: the task names an address that may not be reached.
        """
        if not isinstance(value, str):
            raise InputError('A tag with valueType="url" needs an address in the task')
        address = value.strip()

        def make() -> str:
            with self._opened(address, label_studio) as fetched:
                if not _TEXT_TYPES.fullmatch(fetched.content_type):
                    raise InputError("What is at the task's address is not a text, by its content type")
                return _decoded(fetched.file.read(), fetched.charset)

        return self._cache.get(["text", _FORM_OF_THE_CACHE, _digest(address), _who(label_studio)], make)

    def close(self) -> None:
        """Ends threads and connections."""
        self._unpacking.shutdown(wait=False)
        self._fetcher.close()

    def _prepared(
        self, value: str, images: ImageOptions, label_studio: LabelStudio | None
    ) -> tuple[PicturePart, ...]:
        limits = Limits(images.max_side, images.max_pages, self._max_pixels)

        def make() -> str:
            with self._opened(value, label_studio, base64_too=True) as fetched:
                if not _PICTURE_TYPES.fullmatch(fetched.content_type):
                    raise InputError("What is at the task's address is not a picture, by its content type")
                pictures = self._unpacking.submit(prepare_pictures, fetched.file, limits).result()
            return json.dumps([picture.data_url for picture in pictures])

        what = ["pictures", _FORM_OF_THE_CACHE, _digest(value), _who(label_studio), repr(limits)]
        return tuple(PicturePart(url) for url in json.loads(self._cache.get(what, make)))

    @contextmanager
    def _opened(
        self, value: str, label_studio: LabelStudio | None, *, base64_too: bool = False
    ) -> Iterator[Fetched]:
        """The file that the value names: inside the value itself, in Label Studio, or at an address."""
        if value[:5].lower() == "data:":
            yield self._from_data_url(value)
        elif re.match(r"https?://", value, re.IGNORECASE):
            with self._fetcher.fetch(value, label_studio) as fetched:
                yield fetched
        elif is_label_studio_file(value, label_studio):
            if label_studio is None:
                raise InputError(
                    "The file is in Label Studio: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, "
                    "a personal access token from Account & Settings"
                )
            with self._fetcher.fetch(label_studio.file_address(value), label_studio) as fetched:
                yield fetched
        elif base64_too and _BASE64.fullmatch(value):
            yield self._in_memory(lambda: base64.b64decode(value), len(value) * 3 // 4, "")
        else:
            raise InputError(
                f"The task's value {value[:60]!r} is not the address of a file: use http(s)://, data:, "
                "s3://, gs://, azure-blob://, or an upload of Label Studio"
            )

    def _from_data_url(self, value: str) -> Fetched:
        """The file inside a data URL (RFC 2397)."""
        head, comma, body = value[5:].partition(",")
        if not comma:
            raise InputError("The data: URL in the task is broken")
        content_type, *parameters = (part.strip() for part in head.split(";"))
        charset = next((part[8:] for part in parameters if part.lower().startswith("charset=")), None)
        if "base64" in (part.lower() for part in parameters):
            make: Callable[[], bytes] = lambda: base64.b64decode(unquote_to_bytes(body))  # noqa: E731
            size = len(body) * 3 // 4
        else:
            make, size = (lambda: unquote_to_bytes(body)), len(body)
        fetched = self._in_memory(make, size, content_type.lower())
        return Fetched(fetched.file, fetched.content_type, charset)

    def _in_memory(self, make: Callable[[], bytes], size: int, content_type: str) -> Fetched:
        if size > self._max_bytes:
            raise InputError(
                f"The file in the task is larger than {self._max_bytes} bytes: FETCH_MAX_BYTES is the limit"
            )
        try:
            return Fetched(io.BytesIO(make()), content_type, None)
        except (binascii.Error, ValueError):
            raise InputError("The base64 text in the task is broken") from None


@functools.cache
def attached_note() -> str:
    """What stands for the text where the picture itself is sent."""
    file = PROJECT_ROOT / "prompt_templates" / "attached-picture.txt"
    return file.read_text(encoding="utf-8").removesuffix("\n")


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


def _who(label_studio: LabelStudio | None) -> list[str]:
    """On whose behalf something was fetched: what one may read, another must not find in the cache."""
    if label_studio is None:
        return []
    return [label_studio.url, _digest(label_studio.token), label_studio.project_id]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
