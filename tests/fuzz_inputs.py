"""Fuzzing of what reads and fetches for tasks: `python -m tests.fuzz_inputs --minutes 10`.

Whatever a task, a file or a server says, only errors of our own may come out. It ends by itself, fetches from
loopback only, and says how much it tried; it exits with 1 at the first other exception.
"""

import argparse
import base64
import io
import logging
import random
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from llm_backend.errors import BackendError
from llm_backend.label_studio.files import LabelStudio, is_label_studio_file, origin_of
from llm_backend.reading import FileReader, TaskFiles
from llm_backend.reading.pictures import Limits, prepare_pictures
from llm_backend.settings import load_settings
from testkit.canary import FileServer, Page, running
from testkit.pictures import encoded

_LIMITS = Limits(max_side=64, max_pages=3, max_pixels=1_000_000)
_ROUND = settings(
    max_examples=200,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

_ADDRESSES = (
    "http://127.0.0.1:{port}/a.png",
    "http://localhost:{port}/",
    "https://[::1]:{port}/x?y#z",
    "data:image/png;base64,iVBOR",
    "data:text/plain;charset=x,%41",
    "/data/upload/1/a.png",
    "/data/local-files/?d=a/b.png",
    "s3://bucket/key.png",
    "azure-blob://c/b",
    "/tasks/1/resolve/?fileuri=eA==",
    "file:///etc/passwd",
    "../x",
    "http://\u2603.example:1/",
)
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.0 401 No\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a=b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-7\r\nConnection: close\r\n\r\n+AGEAYg-",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=unicode_escape\r\n\r\na\\ud800\\x41",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-16\r\n\r\n\xff\xfea\x00\x3d\xd8\x00\xde",
)


_getaddrinfo = socket.getaddrinfo


def _seeds() -> list[bytes]:
    """Small files of every format, in modes and with options that take different paths through Pillow."""
    base = Image.effect_noise((48, 32), 80)
    colour = Image.merge("RGB", (base, base.rotate(90, expand=False), base))
    files = [encoded(colour, name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO")]
    exif = Image.Exif()
    exif[0x0112] = 6
    files += [encoded(colour, "JPEG", exif=exif, progressive=True), encoded(colour.convert("CMYK"), "JPEG")]
    modes = ("1", "L", "LA", "P", "RGBA", "I;16")
    files += [encoded(colour.convert("L").convert(mode), "PNG") for mode in modes]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "raw"):
        files.append(encoded(colour, "TIFF", compression=compression))
    files.append(encoded(base, "TIFF", save_all=True, append_images=[colour, base]))
    files.append(encoded(colour, "GIF", save_all=True, append_images=[base, colour]))
    files.append(encoded(colour, "PNG", exif=exif, save_all=True, append_images=[colour.rotate(9)]))
    return files


def _mutated(seeds: list[bytes], draw: random.Random) -> bytes:
    """A seed with some bytes changed, removed, repeated, or taken from another seed."""
    file = bytearray(draw.choice(seeds))
    for _ in range(draw.randrange(0, 12)):
        at = draw.randrange(len(file) + 1)
        what = draw.randrange(6)
        if what == 0:
            file[at : at + 1] = bytes([draw.randrange(256)])
        elif what == 1:
            file[at : at + draw.randrange(64)] = b""
        elif what == 2:
            file[at:at] = bytes(draw.randrange(256) for _ in range(draw.randrange(16)))
        elif what == 3:
            file[at : at + 4] = draw.choice(
                [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            )
        elif what == 4:
            other = draw.choice(seeds)
            file[at : at + 32] = other[at : at + 32]
        else:
            file[at:at] = file[at : at + draw.randrange(128)] * draw.randrange(4)
    return bytes(file)


def _loopback_only(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    """No name is asked for outside this machine, and no other machine is found."""
    if str(host) not in ("127.0.0.1", "localhost", "::1"):
        raise socket.gaierror(socket.EAI_NONAME, "not on loopback")
    return _getaddrinfo(host, port, *args, **kwargs)


def _pictures(files: TaskFiles, value: str) -> object:
    return files.pictures([value], max_side=_LIMITS.max_side, max_pages=_LIMITS.max_pages)


class Fuzzer:
    """What is tried, and what came out."""

    def __init__(self, server: FileServer, reader: FileReader) -> None:
        label_studio = LabelStudio(server.url, "token", "1")
        self.outcomes: Counter[str] = Counter()
        self._server = server
        self._seeds = _seeds()
        self._label_studio = label_studio
        self._files, self._public = reader.files_for(label_studio), reader.files_for(None)

    def targets(self) -> list[Callable[[], None]]:
        """Each tries some hundred inputs when it is called."""
        values = [address.format(port=self._server.port) for address in _ADDRESSES]
        randoms = st.randoms(use_true_random=False)
        answers = [*_ANSWERS, *(b"HTTP/1.1 200 OK\r\n\r\n" + file for file in self._seeds)]

        @given(randoms)
        def pictures(draw: random.Random) -> None:
            file = io.BytesIO(_mutated(self._seeds, draw))
            self._try("picture", lambda: prepare_pictures(file, _LIMITS))

        @given(st.binary(max_size=200))
        def anything(content: bytes) -> None:
            self._try("bytes", lambda: prepare_pictures(io.BytesIO(content), _LIMITS))

        @given(randoms, st.sampled_from(["data:image/png;base64,", "data:;base64,", "", "data:image/x,"]))
        def in_the_task(draw: random.Random, head: str) -> None:
            value = head + base64.b64encode(_mutated(self._seeds, draw)).decode()
            self._try("data", lambda: _pictures(self._public, value))

        @given(
            st.one_of(st.text(max_size=80), st.sampled_from(values)), st.text(max_size=20), st.integers(0, 60)
        )
        def addresses(value: str, more: str, at: int) -> None:
            address = value[:at] + more + value[at:]
            self._server.answer = lambda asked: Page(self._seeds[1])
            self._try("address", lambda: _pictures(self._files, address))
            self._try("address", lambda: self._files.text_at(address))
            origin_of(address)
            is_label_studio_file(address, self._label_studio)

        @given(randoms, st.sampled_from(["/data/upload/1/{n}", "/x/{n}"]), st.integers(0, 10**9))
        def answered(draw: random.Random, path: str, number: int) -> None:
            raw = _mutated(answers, draw)
            self._server.answer = lambda asked: Page(raw=lambda out: out.write(raw))
            address = self._server.url + path.format(n=number)
            self._try("answer", lambda: _pictures(self._files, address))
            self._try("answer", lambda: self._files.text_at(address))

        return [_ROUND(target) for target in (pictures, anything, in_the_task, addresses, answered)]

    def _try(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
            self.outcomes[f"{what}: read"] += 1
        except BackendError as error:
            self.outcomes[f"{what}: {error.code}"] += 1


def main() -> int:
    """Runs for the minutes that are asked for, at most 60."""
    parser = argparse.ArgumentParser(description="Fuzz the fetcher and the picture reader.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    deadline = time.monotonic() + min(60, arguments.minutes) * 60
    warnings.simplefilter("ignore")
    socket.getaddrinfo = _loopback_only
    logging.disable(logging.CRITICAL)
    number = arguments.seed
    with running() as server, tempfile.TemporaryDirectory() as folder:
        reader = FileReader(
            load_settings(
                {"MODEL_DIR": folder, "FETCH_TIMEOUT": "1", "FETCH_MAX_BYTES": "100000",
                 "IMAGE_MAX_PIXELS": "1000000", "ALLOWED_HOSTS": "127.0.0.1"},
                env_file=None,
            )
        )  # fmt: skip
        fuzzer = Fuzzer(server, reader)
        try:
            while time.monotonic() < deadline:
                for target in fuzzer.targets():
                    seed(number)(target)()
                    number += 1
        except Exception:
            traceback.print_exc()
            print(f"failed at seed {number}")  # noqa: T201 - a command's output
            return 1
        finally:
            reader.close()
            print(f"{sum(fuzzer.outcomes.values())} inputs tried, until seed {number}:")  # noqa: T201
            for outcome, times in sorted(fuzzer.outcomes.items()):
                print(f"{times:9d}  {outcome}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
