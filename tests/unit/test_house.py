"""The rules of the architecture, read from the source: who may import whom, what is named where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun import transport

ROOT = Path(__file__).parents[2]
CORE = ROOT / "remoterun"
TRANSPORTS = ROOT / "transports"
PACKAGES = sorted(path.name for path in TRANSPORTS.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))

FOLDERS = {"remoterun", "transports", "scripts", "tests", "deploy"}
OPTIONAL_FOLDERS = {"docs", "deploy"}
BUILT = {"build", "dist"}  # ignored by git

# They run inside a script's process, in an environment that holds nothing of ours.
STANDARD_LIBRARY_ONLY = [
    "script.py",
    *(
        f"workers/{name}.py"
        for name in ("child", "forkserver", "describe", "exhibits", "frames", "handed", "system", "values")
    ),
]
# Where the script's own environment has it, or ours runs the script.
ALLOWED_LAZILY = {
    "workers/describe.py": {"pydantic", "pydantic_core", "typing_extensions"},
    "workers/values.py": {"pydantic", "pydantic_core"},
}

IMPURE = {"socket", "asyncio", "threading", "logging", "socketserver", "selectors", "multiprocessing", "subprocess"}
FILE_PROTOCOL = {"read", "write", "flush", "close"}  # the standard library says what these do

# What users of `connect` may rely on; the rest of the module serves the command line.
SHORTER_THAN_THE_MODULE = {"remoterun/client.py"}

PURE = [
    "addresses.py",
    "messages.py",
    "states.py",
    "errors.py",
    "grammar.py",
    "operations.py",
    "quantities.py",
    "metrics.py",
]
PURE_IN_TRANSPORTS = ("protocol.py", "envelope.py", "frames.py", "brine.py")


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Give the full name of every module that is imported anywhere in a tree, names from packages too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: -node.level + 1 or None]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    folder = path.parent.relative_to(TRANSPORTS if TRANSPORTS in path.parents else ROOT)
    return set(imports(parse(path), ".".join(folder.parts)))


def is_under(module: str, *roots: str) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def at_import(tree: ast.Module) -> ast.Module:
    """Give a module without the bodies of its functions and what only type checkers read."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if is_type_checking(node) else self.generic_visit(node)

    cut: ast.Module = Outside().visit(tree)
    return cut


def test_the_reader_of_imports_sees_every_form() -> None:
    code = "import a.b\nfrom c import d\ndef f():\n    from .e import g\n    from . import h\n    from ..i import j"
    found = set(imports(ast.parse(code), "x.y"))
    assert found == {"a.b", "c", "c.d", "x.y.e", "x.y.e.g", "x.y", "x.y.h", "x.i", "x.i.j"}


@pytest.mark.parametrize("path", sources(CORE), ids=name_of)
def test_the_core_imports_no_transport(path: Path) -> None:
    assert not {module for module in imports_of(path) if is_under(module, "transports", *PACKAGES)}


@pytest.mark.parametrize("path", sources(TRANSPORTS), ids=name_of)
def test_a_transport_knows_neither_others_nor_what_is_behind_the_service(path: Path) -> None:
    own = path.relative_to(TRANSPORTS).parts[0]
    others = [package for package in PACKAGES if package != own]
    hidden = ["remoterun.workers", "remoterun.store", "remoterun.dispatcher", "remoterun.catalog"]
    assert not {module for module in imports_of(path) if is_under(module, *others, *hidden, "transports")}


@pytest.mark.parametrize("path", [*sources(ROOT / "tests"), *sources(ROOT / "scripts")], ids=name_of)
def test_nobody_imports_transports_as_a_package(path: Path) -> None:
    assert not {module for module in imports_of(path) if is_under(module, "transports")}


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_runs_in_a_scripts_process_needs_the_standard_library_alone(name: str) -> None:
    tree = parse(CORE / name)
    allowed = {*sys.stdlib_module_names, *ALLOWED_LAZILY.get(name, ())}
    assert foreign(tree, name, allowed) == set()
    assert foreign(at_import(tree), name, set(sys.stdlib_module_names)) == set()


def foreign(tree: ast.Module, name: str, allowed: set[str]) -> set[str]:
    """Give what a file of the core imports beyond the allowed and its own kind."""
    package = ".".join(("remoterun", *Path(name).parts[:-1]))
    found = {module for module in imports(tree, package) if module.partition(".")[0] not in allowed}
    kin = [own_name(other) for other in STANDARD_LIBRARY_ONLY]
    return {module for module in found if not is_under(module, *kin)} - {"remoterun", "remoterun.workers"}


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_runs_in_a_scripts_process_loads_where_nothing_is_installed(name: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {own_name(name)}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # -S: no site-packages


def own_name(name: str) -> str:
    return "remoterun." + name.removesuffix(".py").replace("/", ".")


def pure_files() -> list[Path]:
    protocols = [
        path for path in sources(TRANSPORTS) if path.name in ("protocol.py", "envelope.py", "frames.py", "brine.py")
    ]
    return [*(CORE / name for name in PURE), *protocols]


@pytest.mark.parametrize("path", pure_files(), ids=name_of)
def test_the_pure_core_does_nothing_but_compute(path: Path) -> None:
    assert not {module for module in imports_of(path) if is_under(module, *IMPURE)}


def test_the_top_level_folders_are_the_architectures() -> None:
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    ours = {name for name in there if not name.endswith(".egg-info")} - BUILT
    assert FOLDERS - OPTIONAL_FOLDERS <= ours <= FOLDERS | OPTIONAL_FOLDERS


def test_the_transports_folder_is_no_package() -> None:
    assert not (TRANSPORTS / "__init__.py").exists()
    assert all((TRANSPORTS / package / "__init__.py").exists() for package in PACKAGES)


def pyproject() -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_wheel_names_every_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = tomllib.loads(text)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == ["remoterun", *(f"transports/{package}" for package in PACKAGES)]


def test_every_transport_has_its_entry_point() -> None:
    points = pyproject()["project"]["entry-points"]["remoterun.transports"]
    assert {re.split("[:.]", str(value))[0] for value in points.values()} <= set(PACKAGES)
    assert set(transport.installed()) == set(points)


def test_the_shortcut_to_shipped_transports_says_what_their_entry_points_say() -> None:
    points = pyproject()["project"]["entry-points"]["remoterun.transports"]
    packages = {name: str(value).partition(":")[0] for name, value in points.items()}
    schemes = {scheme: packages[name] for name, found in transport.installed().items() for scheme in found.schemes}
    assert dict(transport._SHIPPED) == schemes


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Give the public functions, classes and methods of a body, with their names."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


def methods_of_subclasses(tree: ast.Module) -> set[str]:
    """Give the methods of classes with bases: what they override is documented there."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
    return {f"{cls.name}.{name}" for cls in classes for name, _ in public(cls.body)}


@pytest.mark.parametrize("path", [path for path in sources(CORE) if "versions" not in path.parts], ids=name_of)
def test_what_is_public_says_what_it_does(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    said_elsewhere = methods_of_subclasses(tree)
    bare = [name for name, node in public(tree.body) if name not in said_elsewhere and not ast.get_docstring(node)]
    assert [name for name in bare if "." not in name or name.rpartition(".")[2] not in FILE_PROTOCOL] == []


def exports() -> list[Path]:
    return [path for path in [*sources(CORE), *sources(TRANSPORTS)] if re.search("^__all__", path.read_text(), re.M)]


@pytest.mark.parametrize("path", exports(), ids=name_of)
def test_all_is_exact(path: Path) -> None:
    """Every name of `__all__` is there, once, and nothing that the module defines as public is left out."""
    tree = parse(path)
    listed = exported(tree)
    assert len(listed) == len(set(listed))
    defined = {name for name, _ in public(tree.body) if "." not in name}
    if name_of(path) not in SHORTER_THAN_THE_MODULE:
        assert defined <= set(listed)
    names = defined | set(bindings(tree))
    assert set(listed) <= names


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise AssertionError("__all__ is no plain list")


def bindings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_importing_remoterun_loads_nothing_else_of_ours() -> None:
    code = "import sys, remoterun; print(sorted(m for m in sys.modules if m.startswith('remoterun.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
