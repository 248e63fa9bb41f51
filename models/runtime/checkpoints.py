"""Checkpoints: the state of a fit on disk, so that one that was killed goes on and ends as if it had not been."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The layout of a state file; a reader refuses any other.
SCHEMA_VERSION = 1

_TREE = "tree"


class CheckpointError(ValueError):
    """A state file cannot be read or a state not be written; the message names it."""


class Checkpoint:
    """The states of one fit, one file a stage, in a folder of its own; without a folder nothing is kept.

    A *state* is a tree: mappings (with keys that are strings or numbers), lists and tuples, of numbers, strings, None,
    numpy arrays and torch tensors, so that ``state_dict()`` of a network or optimizer and ``bit_generator.state`` of a
    numpy generator can be given as they are. Arrays come back as numpy arrays (:func:`tensors` makes tensors of them).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    @classmethod
    def of(cls, root: Path | None, key: str) -> Checkpoint:
        """Return the checkpoint under ``root`` of the fit that ``key`` identifies; with None it keeps nothing."""
        return cls(None if root is None else root / key[:24])

    def save(self, stage: str, state: Mapping[str, Any]) -> None:
        """Replace the state of a stage, whole or not at all: it is written aside, flushed to disk and renamed."""
        if self.folder is None:
            return
        arrays: dict[str, NDArray[Any]] = {}
        tree = {"schema_version": SCHEMA_VERSION, "state": _folded(state, arrays)}
        arrays[_TREE] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._file(self.folder, stage)
        aside = path.with_name(f".{path.name}.part")
        with aside.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)

    def load(self, stage: str) -> dict[str, Any] | None:
        """Return the last state of a stage, None if there is none; raise ``CheckpointError`` if it cannot be read."""
        if self.folder is None:
            return None
        path = self._file(self.folder, stage)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            tree = json.loads(arrays.pop(_TREE).tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path}: is no state of a fit ({error}); remove it to fit anew") from error
        if tree.get("schema_version") != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: schema version {tree.get('schema_version')!r}, this code reads {SCHEMA_VERSION}"
            )
        state: dict[str, Any] = _unfolded(tree["state"], arrays)
        return state

    def remove(self) -> None:
        """Forget the fit: for whoever has saved what came of it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _file(folder: Path, stage: str) -> Path:
        return folder / f"{stage}.npz"


def fit_key(facts: Iterable[object]) -> str:
    """Return the hash of what a fit's result depends on: arrays by their content, everything else by its ``repr``.

    >>> fit_key(["ease", np.arange(3)]) == fit_key(["ease", np.arange(3)]) != fit_key(["ease", np.arange(4)])
    True
    """
    digest = hashlib.sha256()
    for fact in facts:
        if isinstance(fact, np.ndarray):
            digest.update(repr((fact.dtype.str, fact.shape)).encode())
            digest.update(np.ascontiguousarray(fact).data)
        else:
            digest.update(repr(fact).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def tensors(tree: Any) -> Any:
    """Return a tree of :meth:`Checkpoint.load` with torch tensors for its arrays, as ``load_state_dict`` takes it."""
    import torch

    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree)
    if isinstance(tree, dict):
        return {key: tensors(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(tensors(value) for value in tree)
    return tree


def _folded(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Encode a tree as JSON and move its arrays to ``arrays``; arrays, mappings and tuples are tagged by kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        pairs = [[key, _folded(inner, arrays)] for key, inner in value.items()]
        if not all(isinstance(key, str | int) for key, _ in pairs):
            raise CheckpointError(f"a state's keys are strings or whole numbers, not {sorted(map(str, value))}")
        return {"mapping": pairs}
    if isinstance(value, tuple):
        return {"tuple": [_folded(inner, arrays) for inner in value]}
    if isinstance(value, list):
        return [_folded(inner, arrays) for inner in value]
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    if isinstance(array, np.generic):
        return _folded(array.item(), arrays)
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise CheckpointError(f"a state cannot hold a {type(value).__name__}")
    name = f"array.{len(arrays)}"
    arrays[name] = array
    return {"array": name}


def _unfolded(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return [_unfolded(inner, arrays) for inner in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "array":
        return arrays[inner]
    if kind == "tuple":
        return tuple(_unfolded(one, arrays) for one in inner)
    return {key: _unfolded(one, arrays) for key, one in inner}
