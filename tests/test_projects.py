"""Projects: what one object writes the others read at once, it survives, and nobody's write is lost."""

import multiprocessing
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_backend.errors import StorageError
from llm_backend.storage import Database, Project, Projects

CONFIG = "<View/>"
WRITERS = 4
WRITES = 15


class OpenProjects(Projects):
    """Projects with a database of their own."""

    def __init__(self, database_url: str | None, model_dir: Path) -> None:
        self._own = Database(database_url, model_dir)
        super().__init__(self._own)

    def close(self) -> None:
        """Closes the database."""
        self._own.close()


Open = Callable[[], OpenProjects]


@pytest.fixture
def open_storage(tmp_path: Path) -> Iterator[Open]:
    """Opens Projects objects on one file, as several workers or a restart do."""
    opened: list[OpenProjects] = []

    def open_it() -> OpenProjects:
        opened.append(OpenProjects(None, tmp_path))
        return opened[-1]

    yield open_it
    for storage in opened:
        storage.close()


def write_many(model_dir: Path, writer: int) -> None:
    """What one of several writers does: projects of its own, and one that all write to."""
    storage = OpenProjects(None, model_dir)
    for number in range(WRITES):
        storage.remember_prompt(f"{writer}.{number}", f"prompt {writer}.{number}")
        storage.remember_prompt("shared", f"{writer}.{number}")
        storage.remember_setup("shared", CONFIG, {"model": f"{writer}.{number}"})
    storage.close()


def check_nothing_is_lost(storage: OpenProjects) -> None:
    """All writers' own projects are there, and the shared one holds something that was written."""
    expected = {f"{w}.{n}": f"prompt {w}.{n}" for w in range(WRITERS) for n in range(WRITES)}
    assert {project: storage.get(project).prompt for project in expected} == expected
    shared = storage.get("shared")
    assert shared.prompt in expected
    assert (shared.extra_params or {})["model"] in expected
    assert shared.label_config == CONFIG


def test_an_unknown_project_has_nothing(open_storage: Open) -> None:
    """What was never set up or used has no config, no prompt, and is no error."""
    project = open_storage().get("7.1795440473")
    assert (project.label_config, project.prompt) == (None, None)
    assert not project.extra_params


def test_a_setup_is_remembered(open_storage: Open) -> None:
    """A project keeps its labeling config and its extra params as they are."""
    extra = {"model": "m", "temperature": 0.5, "api_key": "k", "default_prompt": "é 情感 🙂 \n'\""}
    open_storage().remember_setup("p", CONFIG, extra)
    project = open_storage().get("p")
    assert (project.label_config, project.extra_params) == (CONFIG, extra)


def test_a_second_setup_replaces_the_first(open_storage: Open) -> None:
    """What the model page says now counts, also when it says nothing."""
    storage = open_storage()
    storage.remember_setup("p", CONFIG, {"model": "m"})
    storage.remember_setup("p", "<View><!-- new --></View>", {})
    assert storage.get("p") == Project("<View><!-- new --></View>", {}, None)


def test_the_later_prompt_counts(open_storage: Open) -> None:
    """Of several prompts the last one is the project's, whoever remembered it."""
    first, second = open_storage(), open_storage()
    first.remember_prompt("p", "one")
    second.remember_prompt("p", "two")
    first.remember_prompt("p", "one")
    assert second.get("p").prompt == "one"


def test_setup_and_prompt_leave_each_other_alone(open_storage: Open) -> None:
    """A prompt does not lose the config, nor a setup the prompt, in either order."""
    storage = open_storage()
    storage.remember_prompt("a", "prompt")
    storage.remember_setup("a", CONFIG, {"model": "m"})
    storage.remember_setup("b", CONFIG, {"model": "m"})
    storage.remember_prompt("b", "prompt")
    expected = Project(CONFIG, {"model": "m"}, "prompt")
    assert storage.get("a") == storage.get("b") == expected


def test_a_prompt_alone_makes_no_project_known(open_storage: Open) -> None:
    """Only `/setup` brings a labeling config: a prompt that was used before it does not."""
    storage = open_storage()
    storage.remember_prompt("p", "prompt")
    assert storage.get("p").label_config is None


def test_a_changed_default_prompt_replaces_the_prompt(open_storage: Open) -> None:
    """A default prompt that is new or has changed becomes the prompt; the same one again does not."""
    storage = open_storage()
    storage.remember_prompt("p", "used before")
    storage.remember_setup("p", CONFIG, {"default_prompt": "first"})
    assert storage.get("p").prompt == "first"
    storage.remember_prompt("p", "typed")
    storage.remember_setup("p", CONFIG, {"default_prompt": "first"})
    storage.remember_setup("p", CONFIG, {"default_prompt": "first", "model": "other"})
    storage.remember_setup("p", "<View></View>", {"default_prompt": "first"})
    assert storage.get("p").prompt == "typed"
    storage.remember_setup("p", CONFIG, {"default_prompt": "second"})
    assert storage.get("p").prompt == "second"


@pytest.mark.parametrize("extra", [{}, {"default_prompt": ""}, {"model": "m"}])
def test_no_default_prompt_leaves_the_prompt(open_storage: Open, extra: dict[str, str]) -> None:
    """A default prompt that is taken away does not take the project's prompt with it."""
    storage = open_storage()
    storage.remember_setup("p", CONFIG, {"default_prompt": "first"})
    storage.remember_setup("p", CONFIG, extra)
    assert storage.get("p").prompt == "first"


@pytest.mark.parametrize(
    "other",
    ["7.1795440474", "7", "7.17954404730", " 7.1795440473", "8.1795440473", "7.1795440473' OR '1'='1", ""],
)
def test_the_whole_project_string_counts(open_storage: Open, other: str) -> None:
    """Projects of several Label Studios with the same id do not see each other."""
    storage = open_storage()
    storage.remember_prompt("7.1795440473", "mine")
    storage.remember_setup("7.1795440473", CONFIG, {})
    assert storage.get(other) == Project()


def test_two_objects_see_each_other_s_writes_at_once(open_storage: Open) -> None:
    """What one worker writes the next read of every other one gives."""
    first, second = open_storage(), open_storage()
    for number in range(5):
        first.remember_prompt("p", f"from first {number}")
        assert second.get("p").prompt == f"from first {number}"
        second.remember_setup("p", CONFIG, {"model": str(number)})
        assert first.get("p").extra_params == {"model": str(number)}


def test_state_survives_closing(open_storage: Open) -> None:
    """A restart finds everything, and a closed object opens again when it is used."""
    storage = open_storage()
    storage.remember_prompt("p", "prompt")
    storage.close()
    storage.close()
    assert open_storage().get("p").prompt == "prompt"
    assert storage.get("p").prompt == "prompt"


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    """Making the object touches no file, so that it can be made before a fork."""
    OpenProjects(None, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_the_folder_is_made(tmp_path: Path) -> None:
    """`MODEL_DIR` need not exist, and its name may hold any character of a path."""
    folder = tmp_path / "a" / "what? 100% #1 é"
    storage = OpenProjects(None, folder)
    storage.remember_prompt("p", "prompt")
    storage.close()
    assert list(folder.iterdir())
    assert [path.name for path in tmp_path.rglob("*.sqlite3")] == [
        path.name for path in folder.glob("*.sqlite3")
    ]


def test_only_the_owner_reads_the_files(open_storage: Open, tmp_path: Path) -> None:
    """Extra params may hold keys: the database and the files beside it have mode 0600."""
    storage = open_storage()
    storage.remember_setup("p", CONFIG, {"api_key": "k"})
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}


def test_a_database_url_is_used(tmp_path: Path) -> None:
    """`DATABASE_URL` names the file, and `MODEL_DIR` is left alone."""
    storage = OpenProjects(f"sqlite:///{tmp_path}/sub/other.db", tmp_path / "unused")
    storage.remember_prompt("p", "prompt")
    storage.close()
    assert (tmp_path / "sub" / "other.db").is_file()
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: folder.write_text("a file"),
        lambda folder: (folder / "state.sqlite3").mkdir(parents=True),
    ],
    ids=["the folder is a file", "the file is a folder"],
)
def test_a_database_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """Every use says so in our own error, with a cause in one line."""
    spoil(tmp_path / "state")
    storage = OpenProjects(None, tmp_path / "state")
    uses: list[Callable[[], object]] = [
        lambda: storage.get("p"),
        lambda: storage.remember_prompt("p", "x"),
        lambda: storage.remember_setup("p", CONFIG, {}),
    ]
    for use in uses:
        with pytest.raises(StorageError) as caught:
            use()
        assert "\n" not in caught.value.reason
    storage.close()


@pytest.mark.parametrize("url", ["postgresql+psycopg://user:sk-secret@127.0.0.1:1/db?connect_timeout=1"])
def test_a_server_that_is_not_there(tmp_path: Path, url: str) -> None:
    """Without the server, or without its driver, the error is ours and holds no password."""
    storage = OpenProjects(url, tmp_path)
    with pytest.raises(StorageError) as caught:
        storage.get("p")
    assert "sk-secret" not in caught.value.reason
    storage.close()


def test_threads_lose_nothing(open_storage: Open, tmp_path: Path) -> None:
    """Many threads, some with an object of their own, write at once and nothing is lost."""
    shared, errors = open_storage(), []

    def write(writer: int) -> None:
        try:
            if writer % 2:
                write_many(tmp_path, writer)
            else:
                for number in range(WRITES):
                    shared.remember_prompt(f"{writer}.{number}", f"prompt {writer}.{number}")
                    shared.remember_prompt("shared", f"{writer}.{number}")
                    shared.remember_setup("shared", CONFIG, {"model": f"{writer}.{number}"})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    check_nothing_is_lost(open_storage())


@pytest.mark.parametrize("attempt", range(40))
def test_many_open_a_new_database_at_once(tmp_path: Path, attempt: int) -> None:
    """Workers that all start on a database that is not there yet do not get in each other's way."""
    together = threading.Barrier(8)
    errors: list[Exception] = []

    def start(worker: int) -> None:
        storage = OpenProjects(None, tmp_path)
        together.wait(20)
        try:
            storage.remember_prompt(f"{worker}", f"{attempt}")
        except StorageError as error:
            errors.append(error)
        storage.close()

    threads = [threading.Thread(target=start, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_processes_lose_nothing(open_storage: Open, tmp_path: Path) -> None:
    """Several workers start on a new database at once, all write, and nothing is lost."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_many, args=(tmp_path, writer)) for writer in range(WRITERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    assert [worker.exitcode for worker in workers] == [0] * WRITERS
    check_nothing_is_lost(open_storage())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_any_text_comes_back(open_storage: Open, project: str, prompt: str, extra: dict[str, str]) -> None:
    """Whatever a person types as a prompt, and whatever a project is called, is read back the same."""
    storage = open_storage()
    storage.remember_setup(project, prompt, extra)
    storage.remember_prompt(project, prompt)
    assert storage.get(project) == Project(prompt, extra, prompt)
    storage.close()
