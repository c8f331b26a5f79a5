"""What the project's structure promises and the import contract in pyproject.toml cannot say."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((PROJECT_ROOT / "llm_backend").rglob("*.py"))


def module_id(path: Path) -> str:
    """The module's path below the project, as the name of a test."""
    return str(path.relative_to(PROJECT_ROOT))


def imported_modules(path: Path) -> Iterator[str]:
    """The full names of all modules that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def environment_uses(path: Path) -> list[str]:
    """Every mention of the process's environment in the file's code."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and names & {alias.name for alias in node.names})
    ]


def test_there_are_modules_to_look_at() -> None:
    """The checks below do look at the package."""
    assert {"errors.py", "settings.py", "app.py"} <= {path.name for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_the_package_does_not_know_its_users(path: Path) -> None:
    """No module of the package imports `model` or `_wsgi`, which stand above it."""
    assert not {name.partition(".")[0] for name in imported_modules(path)} & {"model", "_wsgi"}


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_one_package_calls_label_studio(path: Path) -> None:
    """The SDK's client and httpx are its business; others take label_studio_sdk for labeling configs only."""
    doors = ("label_studio_sdk.client.", "label_studio_sdk.core.", "httpx.")
    imported = [name for name in imported_modules(path) if f"{name}.".startswith(doors)]
    assert not imported or path.parent.name == "label_studio"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_settings_reads_the_environment(path: Path) -> None:
    """The environment is mentioned in `settings.py` and nowhere else."""
    assert bool(environment_uses(path)) == (path.name == "settings.py")


def test_the_default_template_is_the_documented_one() -> None:
    """`prompt_templates/default.txt` is exactly the text that the description gives."""
    template = PROJECT_ROOT / "prompt_templates" / "default.txt"
    assert template.read_bytes() == b"Source Text: {text}\n\nTask Directive: {prompt}"
