"""`<Image>`: pictures, or the text in them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llm_backend.errors import InputError
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import filled
from llm_backend.reading.files import TaskFiles
from llm_backend.reading.tags.base import ObjectTag, register
from llm_backend.settings import PROJECT_ROOT, Settings
from llm_backend.values import Reading


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How an Image is read: all that shapes what the model gets of it.

    `note` is the text beside a picture, empty where no picture is sent; `ocr_languages` is empty where no
    text is read. `max_side` is in pixels.
    """

    image_input: Literal["auto", "vision", "ocr"]
    ocr_languages: tuple[str, ...]
    max_side: int
    max_pages: int
    note: str


class Image(ObjectTag[ImageOptions]):
    """One picture, or several of them with `valueList`; `IMAGE_INPUT` decides whether the model sees them."""

    name = "Image"
    options_type = ImageOptions
    is_text = False
    attributes = frozenset()

    def options(self, settings: Settings) -> ImageOptions:
        """How large, how many, and what of them; a setting that makes no difference is left out."""
        how = settings.image_input
        return ImageOptions(
            image_input=how,
            ocr_languages=() if how == "vision" else settings.ocr_languages,
            max_side=settings.image_max_side,
            max_pages=settings.image_max_pages,
            note="" if how == "ocr" else _note(),
        )

    def read(
        self, source: Source, data: Mapping[str, Any], options: ImageOptions, files: TaskFiles
    ) -> Reading:
        """The pictures; with `ocr` their text; with `auto` that text on demand, of the same pictures."""
        addresses = _addresses(filled(source.value, data))
        pictures = files.pictures(addresses, max_side=options.max_side, max_pages=options.max_pages)

        def text_in_them() -> Reading:
            return Reading(files.text_in(pictures, options.ocr_languages), data)

        if options.image_input == "ocr":
            return text_in_them()
        fall_back = text_in_them if options.image_input == "auto" else None
        return Reading(options.note, data, pictures=pictures, without_pictures=fall_back)

    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """The object's name: a comparison is made of texts."""
        return source.name


@functools.cache
def _note() -> str:
    file = PROJECT_ROOT / "prompt_templates" / "attached-picture.txt"
    return file.read_text(encoding="utf-8").removesuffix("\n")


def _addresses(value: Any) -> list[str]:
    """Where the pictures of an Image are: one address, or with `valueList` a list of them."""
    addresses = value if isinstance(value, list) else [value]
    if not addresses or not all(isinstance(address, str) and address.strip() for address in addresses):
        raise InputError("An Image needs the address of a picture in the task, or a list of addresses")
    return [address.strip() for address in addresses]


register(Image())
