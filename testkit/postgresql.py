"""A PostgreSQL server for tests, with an empty data folder and a port of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

_START_SECONDS = 60


@contextmanager
def running_postgresql() -> Iterator[str]:
    """The URL of a server that runs until the block ends. Without PostgreSQL the test is skipped."""
    initdb, postgres = _program("initdb"), _program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        as_user = _give_to_somebody(folder)
        data = folder / "data"
        subprocess.run(
            [initdb, "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user,
        )  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", name, "-F", "-c", "max_connections=200"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [postgres, "-D", str(data), *options], stdout=log, stderr=log, **as_user
            )
        url = f"postgresql+psycopg://tester@127.0.0.1:{port}"
        try:
            _wait_for(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            server.wait(30)


def new_database(server_url: str) -> str:
    """Makes an empty database and gives its URL."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(_plain(server_url) + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type, unused-ignore]
    return f"{server_url}/{name}"


def _program(name: str) -> str | None:
    """The path of a program. Debian does not put PostgreSQL's programs on the PATH."""
    return shutil.which(name) or next(iter(sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))[-1:]), None)


def _give_to_somebody(folder: Path) -> dict[str, Any]:
    """Gives the folder to `nobody` if we are root, because PostgreSQL refuses to run as root.

    Returns the arguments that start a process as that user.
    """
    if os.geteuid() != 0:
        return {}
    nobody = 65534
    os.chown(folder, nobody, nobody)
    return {"user": nobody, "group": nobody}


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg.connect(_plain(url) + "/postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
