"""Which code a figure or a state stands on: a change of it makes both another one."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path


def code_hash(module: str) -> str:
    """The hash of a module's file and of every module of ours that it imports, and they import.

    The registry is passed over: it names every recommender, and a change of one says nothing of the others.
    """
    root = Path(__file__).parent.parent
    seen: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = root / (name.replace(".", "/") + ".py")
        if name in seen or name == "models.registry" or not path.is_file():
            continue
        seen[name] = path.read_bytes()
        waiting += [
            node.module
            for node in ast.walk(ast.parse(seen[name]))
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("models")
        ]
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + hashlib.sha256(seen[name]).digest())
    return digest.hexdigest()
