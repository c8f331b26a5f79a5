"""The folder that the workers of one server share."""

import os
import subprocess
import sys
import time
from pathlib import Path

from llm_backend.operations.worker_folder import make_folder
from llm_backend.settings import shared_place

OWNER = {"user": os.getuid(), "group": os.getgid()}


def make_and_die(parent: Path) -> Path:
    """The folder of a master that was killed an hour ago."""
    code = (
        "import os, sys, pathlib, llm_backend.operations.worker_folder as s\n"
        "print(s.make_folder([pathlib.Path(sys.argv[1])], user=os.getuid(), group=os.getgid()), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(parent)], stdout=subprocess.PIPE, check=False)
    folder = Path(answer.stdout.decode().strip())
    make_old(folder)
    return folder


def make_old(folder: Path) -> None:
    """Lets the folder be an hour old."""
    os.utime(folder, (time.time() - 3600,) * 2)


def test_the_folder_is_private_and_in_the_first_place_that_can_be(tmp_path: Path) -> None:
    """A missing place and a file are passed over."""
    (tmp_path / "file").touch()
    (tmp_path / "good").mkdir()
    folder = make_folder([tmp_path / "missing", tmp_path / "file", tmp_path / "good"], **OWNER)
    assert folder is not None
    assert folder.parent == tmp_path / "good"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_there_may_be_no_place(tmp_path: Path) -> None:
    """Then there is no folder, and the server can start all the same."""
    assert make_folder([tmp_path / "missing"], **OWNER) is None


def test_what_a_killed_master_has_left_is_removed(tmp_path: Path) -> None:
    """Whatever is in it; and not what belongs to a master that lives, or to somebody else."""
    left = make_and_die(tmp_path)
    (left / "counter_0.db").touch()
    living = make_folder([tmp_path], **OWNER)
    assert living is not None
    foreign = tmp_path / "something"
    foreign.mkdir()
    for folder in (living, foreign, left):
        make_old(folder)
    new = make_folder([tmp_path], **OWNER)
    assert new is not None
    assert not left.exists()
    assert living.exists()
    assert foreign.exists()


def test_a_folder_of_this_moment_is_left_alone(tmp_path: Path) -> None:
    """Another master may be about to lock it."""
    new = make_and_die(tmp_path)
    os.utime(new)
    make_folder([tmp_path], **OWNER)
    assert new.exists()


def test_only_a_worker_of_gunicorn_shares(tmp_path: Path) -> None:
    """A folder alone, which others use prometheus_client with, makes no worker."""
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    assert shared_place({}) is None
    assert shared_place(folder) is None
    assert shared_place(folder | {"LLM_BACKEND_WORKER": "3"}) == (tmp_path, 3)


def test_what_others_call_like_us_is_left_alone(tmp_path: Path) -> None:
    """A checkout or a backup beside it, for example."""
    other = tmp_path / "llm-backend-main"
    other.mkdir()
    make_old(other)
    assert make_folder([tmp_path], **OWNER) is not None
    assert other.exists()
