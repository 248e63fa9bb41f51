"""Fingerprint of the code that a metric, a checkpoint or an asset depends on.

It is one of meaning: comments, docstrings, layout and the names of files do not count, so that a better sentence costs
nobody a refit. A changed constant, statement, name of a function or set of imported modules does.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]

#: The registry names every recommender, and a change of one says nothing of the others.
_PASSED_OVER = "models.registry"


def code_fingerprint(*modules: str) -> str:
    """Return the fingerprint of modules and packages, with every module of ``models`` that they import, and so on.

    >>> code_fingerprint("models.algorithms.ease") == code_fingerprint("models.algorithms.itemknn")
    False
    """
    seen: dict[Path, str] = {}
    waiting = [path for name in modules for path in module_files(name)]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        source = path.read_text(encoding="utf-8")
        seen[path] = syntax_fingerprint(source)
        waiting += [found for name in imported_models(source) for found in module_files(name, whole=False)]
    return _digest(*sorted(seen.values()))


def module_files(name: str, *, whole: bool = True) -> list[Path]:
    """Return the file of a module of ours, or all files of a package; with ``whole`` false, the package's own alone."""
    path = _ROOT / name.replace(".", "/")
    if path.is_dir():
        return sorted(path.rglob("*.py")) if whole else [file for file in [path / "__init__.py"] if file.is_file()]
    file = path.with_suffix(".py")
    return [file] if file.is_file() else []


@cache
def syntax_fingerprint(source: str) -> str:
    r"""Return the digest of Python source by what it does.

    >>> syntax_fingerprint("def f(x):\n    'Add one.'\n    return x + 1  # sic") == syntax_fingerprint(
    ...     "def f(x):\n    return (x + 1)"
    ... )
    True
    """
    tree = ast.parse(source)
    _Meaning(_aliases_of_modules(tree)).visit(tree)
    return _digest(ast.dump(tree, include_attributes=False))


@cache
def imported_models(source: str) -> frozenset[str]:
    """Return the names of the modules of ``models`` that some source imports, wherever in it, less the registry."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None and _is_ours(node.module):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if _is_module(node.module, alias.name)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if _is_ours(alias.name)}
    return frozenset(found - {_PASSED_OVER})


def _aliases_of_modules(tree: ast.AST) -> set[str]:
    """Return the names under which source refers to modules of ours."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and _is_ours(node.module)
        for alias in node.names
        if _is_module(node.module, alias.name)
    }


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "models"


def _is_module(package: str, name: str) -> bool:
    return bool(module_files(f"{package}.{name}", whole=False)) or (_ROOT / package.replace(".", "/") / name).is_dir()


class _Meaning(ast.NodeTransformer):
    """Takes out of a syntax tree what does not change what the code does: docstrings, and where our modules lie."""

    def __init__(self, aliases: set[str]) -> None:
        self._aliases = aliases

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        """Keep which names come from a module of ours, and not from which: that one has a fingerprint of its own."""
        if node.module is None or not _is_ours(node.module):
            return node
        names = [alias for alias in node.names if not _is_module(node.module, alias.name)]
        return ast.ImportFrom(module="", names=names, level=0) if names else None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Leave out what a call for a version names: those files have versions of their own, and may lie elsewhere."""
        if isinstance(node.func, ast.Name) and node.func.id in {"code_version", "code_fingerprint"}:
            return ast.Constant("<version>")
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(id="<module>", ctx=node.ctx) if node.id in self._aliases else node

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        return self.generic_visit(node)


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()
