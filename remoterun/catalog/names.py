"""What the names at a file's top level stand for, as far as its imports alone can tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from types import MappingProxyType

_BUILTINS = frozenset({"int", "str", "float", "bool", "bytes", "list", "dict", "set", "frozenset", "tuple", "object"})


def read(tree: ast.Module) -> Mapping[str, str]:
    """Map each name that certainly stands for an import, or a builtin type, to its dotted name.

    A name that is bound in any other way, or also in another way, is left out.
    """
    imports: dict[str, str] = {}
    elsewhere = _Bindings()
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                _add(imports, elsewhere.names, name, alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.names[0].name != "*":
            for alias in node.names:
                _add(imports, elsewhere.names, alias.asname or alias.name, f"{node.module}.{alias.name}")
        else:
            elsewhere.visit(node)
    known = {} if elsewhere.anything else {name: f"builtins.{name}" for name in _BUILTINS}
    known |= imports
    return MappingProxyType({name: target for name, target in known.items() if name not in elsewhere.names})


def _add(imports: dict[str, str], ambiguous: set[str], name: str, target: str) -> None:
    if imports.setdefault(name, target) != target:
        ambiguous.add(name)


class _Bindings(ast.NodeVisitor):
    """Gather every name that the statements bind at the top level, and whether they may bind any name at all."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.anything = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.add(node.name)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.anything = self.anything or any(alias.name == "*" for alias in node.names)
        self.names.update(alias.asname or alias.name for alias in node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self.names.add(node.name)
        self.generic_visit(node)

    def _visit_function(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.names.add(function.name)
        for node in _statements(function):
            if isinstance(node, ast.Global):
                self.names.update(node.names)


def _statements(function: ast.AST) -> Iterator[ast.AST]:
    """Give every statement inside, however deep; `global` is one, so expressions need no look."""
    pending = [function]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, (ast.stmt, ast.excepthandler, ast.match_case)):
                yield node
                pending.append(node)
