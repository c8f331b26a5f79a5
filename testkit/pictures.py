"""Pictures that tests make."""

import io
import random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"


def png(size: tuple[int, int] = (40, 20), colour: Any = "red", mode: str = "RGB") -> bytes:
    """A PNG file of one colour."""
    return encoded(Image.new(mode, size, colour), "PNG")


def encoded(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    """The picture as a file of that format."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def written(text: str, size: int = 28) -> Image.Image:
    """Black text on white."""
    font = ImageFont.truetype(FONT, size)
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    picture = Image.new("L", (int(box[2]) + 60, int(box[3]) + 60), 255)
    ImageDraw.Draw(picture).multiline_text((30, 30), text, 0, font)
    return picture


def photograph(megapixels: int = 12, seed: int = 0) -> Image.Image:
    """A noisy 4:3 picture. It compresses as badly as a photograph."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    small = Image.effect_noise((width // 4, width * 3 // 16), 90)
    tint = random.Random(seed).randrange(256)
    colours = Image.merge("RGB", (small, small.rotate(180), small.point(lambda value: value ^ tint)))
    return colours.resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
