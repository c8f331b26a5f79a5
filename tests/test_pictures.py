"""Pictures as a model gets them, and what is refused; by bytes that were made for each case."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from llm_backend.errors import InputError
from llm_backend.reading.pictures import Limits, picture_bytes, prepare_pictures
from llm_backend.values import PicturePart
from testkit.pictures import encoded, photograph, png

LIMITS = Limits(max_side=200, max_pages=3, max_pixels=1_000_000)
TOP_LEFT_RED = Image.new("RGB", (60, 40), "blue")
TOP_LEFT_RED.paste("red", (0, 0, 20, 20))


def prepared(file: bytes, limits: Limits = LIMITS) -> list[Image.Image]:
    """What a model gets of the file, opened."""
    return [
        Image.open(io.BytesIO(picture_bytes(part))) for part in prepare_pictures(io.BytesIO(file), limits)
    ]


def colour(picture: Image.Image, at: tuple[int, int]) -> str:
    """The pixel's colour, as a word."""
    pixel: Any = picture.convert("RGB").getpixel(at)
    levels = tuple(round(value / 255) for value in pixel)
    return {(1, 0, 0): "red", (0, 0, 1): "blue", (1, 1, 1): "white", (0, 0, 0): "black"}.get(
        levels, str(pixel)
    )


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_known_format_is_read(file_format: str) -> None:
    """In its size, when that is small enough."""
    [picture] = prepared(encoded(TOP_LEFT_RED, file_format))
    assert (picture.size, colour(picture, (5, 5)), colour(picture, (55, 35))) == ((60, 40), "red", "blue")


@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    [(1, (60, 40), (5, 5)), (3, (60, 40), (55, 35)), (6, (40, 60), (35, 5)), (8, (40, 60), (5, 55)),
     (2, (60, 40), (55, 5)), (4, (60, 40), (5, 35)), (5, (40, 60), (5, 5)), (7, (40, 60), (35, 55))],
)  # fmt: skip
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_exif_says(
    orientation: int, size: tuple[int, int], red_at: tuple[int, int], file_format: str
) -> None:
    """As every viewer shows it, once: no orientation is left over."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    [picture] = prepared(encoded(TOP_LEFT_RED, file_format, exif=exif))
    assert (picture.size, colour(picture, red_at)) == (size, "red")
    assert 0x0112 not in picture.getexif()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_no_harm() -> None:
    """The picture is good without it."""
    [picture] = prepared(encoded(TOP_LEFT_RED, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert picture.size == (60, 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_flattened_onto_white(mode: str) -> None:
    """As a browser shows it."""
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 20, 20))
    [flat] = prepared(encoded(picture.convert(mode), "PNG"))
    assert flat.mode in ("L", "RGB", "P")
    assert (colour(flat, (5, 5)), colour(flat, (35, 35))) == ("black", "white")


def test_a_transparent_colour_is_flattened_too() -> None:
    """PNG can declare one colour of a picture without alpha to be transparent."""
    [flat] = prepared(encoded(TOP_LEFT_RED, "PNG", transparency=(0, 0, 255)))
    assert (colour(flat, (5, 5)), colour(flat, (55, 35))) == ("red", "white")


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "CMYK"])
def test_other_modes_keep_light_and_dark(mode: str) -> None:
    """Sixteen bits are scaled, not cut off; inks become colours."""
    if mode == "I;16":
        picture = Image.new("I;16", (40, 40), 65535)
        picture.paste(0, (0, 0, 20, 20))
    else:
        picture = Image.new("RGB", (40, 40), "white")
        picture.paste("black", (0, 0, 20, 20))
        picture = picture.convert(mode)
    [read] = prepared(encoded(picture, "TIFF"))
    assert (colour(read, (5, 5)), colour(read, (35, 35))) == ("black", "white")


@pytest.mark.parametrize(
    ("size", "expected"), [((800, 400), (200, 100)), ((100, 400), (50, 200)), ((200, 9), (200, 9))]
)
def test_the_longer_side_is_limited(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """In proportion; what is small stays as it is."""
    assert [picture.size for picture in prepared(png(size))] == [expected]


def test_photographs_become_jpeg_and_drawings_png() -> None:
    """Whichever suits: PNG where there are few colours, to keep letters sharp."""
    photo = photograph(1).resize((300, 200))
    assert prepared(encoded(photo, "PNG"))[0].format == "JPEG"
    assert prepared(encoded(photo, "JPEG"))[0].format == "JPEG"
    assert prepared(png((300, 200)))[0].format == "PNG"


def test_the_same_file_gives_the_same_picture() -> None:
    """Else a completion that was paid for is not found again."""
    file = encoded(photograph(1).resize((500, 400)), "JPEG")
    assert prepare_pictures(io.BytesIO(file), LIMITS) == prepare_pictures(io.BytesIO(file), LIMITS)


def test_nothing_but_the_picture_is_sent() -> None:
    """No EXIF, where the place and the camera stand, and no comment."""
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    for file_format in ("JPEG", "PNG"):
        [part] = prepare_pictures(io.BytesIO(encoded(TOP_LEFT_RED, file_format, exif=exif)), LIMITS)
        assert b"taken at home" not in picture_bytes(part)


def test_the_first_pages_of_a_tiff_are_read() -> None:
    """As many as there may be; an animation is its first frame."""
    pages = [Image.new("RGB", (20, 20 + page), "white") for page in range(5)]
    several = {"save_all": True, "append_images": pages[1:]}
    assert [page.height for page in prepared(encoded(pages[0], "TIFF", **several))] == [20, 21, 22]
    same_size = {"save_all": True, "append_images": [Image.new("RGB", (20, 20), "black")]}
    for animated in ("GIF", "WEBP", "PNG"):
        assert len(prepared(encoded(pages[0], animated, **same_size))) == 1


def test_a_bomb_is_refused_by_what_its_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of it is unpacked."""
    bomb = png((20_000, 20_000), 0, "1")
    assert len(bomb) < 100_000
    monkeypatch.setattr(Image.Image, "thumbnail", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(InputError, match="IMAGE_MAX_PIXELS"):
        prepare_pictures(io.BytesIO(bomb), LIMITS)


def test_a_bomb_on_a_later_page_is_refused() -> None:
    """Each page is checked."""
    file = encoded(
        Image.new("1", (10, 10)), "TIFF", save_all=True, append_images=[Image.new("1", (2000, 2000))]
    )
    with pytest.raises(InputError, match="IMAGE_MAX_PIXELS"):
        prepare_pictures(io.BytesIO(file), LIMITS)


@pytest.mark.parametrize(
    "file",
    [b"", b"x", b"<svg/>", b"%PDF-1.4", b"P6 1 1 255 abc", png()[:60], png()[:-20],
     encoded(photograph(1).resize((500, 400)), "JPEG")[:2000], b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
     b"II*\0\x08\0\0\0"],
)  # fmt: skip
def test_what_is_broken_or_unknown_is_refused(file: bytes) -> None:
    """With a sentence that says what can be read."""
    with pytest.raises(InputError, match=r"(broken|kind that).* read"):
        prepare_pictures(io.BytesIO(file), LIMITS)


def test_the_data_url_is_what_it_says() -> None:
    """Its type is that of the file inside."""
    [part] = prepare_pictures(io.BytesIO(png()), LIMITS)
    head, _, body = part.data_url.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body).startswith(b"\x89PNG")
    assert part == PicturePart(part.data_url)
