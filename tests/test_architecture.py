"""What the project's structure promises and the import contract in pyproject.toml cannot say."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((PROJECT_ROOT / "llm_backend").rglob("*.py"))
# Which packages of `llm_backend` may import a third-party package. What is in no row, nobody may import.
OWNERS = {
    "PIL": ("reading",),
    "dotenv": ("settings",),
    "flask": ("server",),
    "httpcore2": ("providers",),
    "httpx": ("label_studio", "providers"),
    "httpx2": ("providers",),
    "inscriptis": ("reading",),
    "label_studio_sdk.client": ("label_studio",),
    "label_studio_sdk.core": ("label_studio",),
    "label_studio_sdk.label_interface": ("labeling", "ml_base"),
    "lxml": ("reading",),
    "openai": ("providers",),
    "prometheus_client": ("operations",),
    "pydantic": ("parameters", "settings"),
    "pydantic_core": ("settings",),
    "rapidfuzz": ("labeling",),
    "requests": ("reading",),
    "sqlalchemy": ("settings", "storage"),
    "urllib3": ("reading",),
    "werkzeug": ("server",),
    "xllamacpp": ("providers",),
}


def module_id(path: Path) -> str:
    """The module's path below the project, as the name of a test."""
    return str(path.relative_to(PROJECT_ROOT))


def imported_names(path: Path) -> Iterator[str]:
    """The full names of all that the file imports, anywhere in it: modules, and what is taken out of them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0]
            assert isinstance(name, ast.Constant), f"{path} imports by a name that nobody can check"
            yield str(name.value)


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
    assert not {name.partition(".")[0] for name in imported_names(path)} & {"model", "_wsgi"}


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_settings_reads_the_environment(path: Path) -> None:
    """The environment is mentioned in `settings.py` and nowhere else."""
    assert bool(environment_uses(path)) == (path.name == "settings.py")


def third_party(path: Path) -> set[str]:
    """The third-party modules that the file imports, by the longest name that has an owner."""
    names = {
        name
        for name in imported_names(path)
        if name.partition(".")[0] not in sys.stdlib_module_names | {"llm_backend", "_typeshed"}
    }
    return {max((row for row in OWNERS if within(name, row)), key=len, default=name) for name in names}


def within(name: str, package: str) -> bool:
    """Whether the module is the package or in it."""
    return f"{name}.".startswith(f"{package}.")


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_each_third_party_package_has_its_owners(path: Path) -> None:
    """No other module imports it, and a package without a row is imported by none."""
    module = ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in third_party(path):
        owners = [f"llm_backend.{owner}" for owner in OWNERS.get(package, ())]
        assert any(within(module, owner) for owner in owners), f"{module} imports {package}: {owners} may"


def test_each_owner_imports_what_it_owns() -> None:
    """A row of the table that has come to nothing is taken out."""
    used = {
        (package, owner)
        for path in MODULES
        for package in third_party(path)
        for owner in OWNERS.get(package, ())
        if within(".".join(path.relative_to(PROJECT_ROOT / "llm_backend").with_suffix("").parts), owner)
    }
    assert used == {(package, owner) for package, owners in OWNERS.items() for owner in owners}


def test_one_door_pays() -> None:
    """Only `asking.completions` has a provider asked; whoever wants a completion goes through it."""
    calls = {"complete", "complete_for_batch"}
    callers = {
        str(path.relative_to(PROJECT_ROOT / "llm_backend"))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in calls and "providers" in ast.unparse(node.value)
    }
    assert callers == {"asking/completions.py"}


def test_the_default_template_is_the_documented_one() -> None:
    """`prompt_templates/default.txt` is exactly the text that the description gives."""
    template = PROJECT_ROOT / "prompt_templates" / "default.txt"
    assert template.read_bytes() == b"Source Text: {text}\n\nTask Directive: {prompt}"
