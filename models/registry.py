"""The recommenders by name, imported when asked for: torch takes seconds that popularity need not pay."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from models.recommender import Recommender, RecommenderError, read_manifest

_CLASSES = {
    "popularity": ("models.popularity", "Popularity"),
    "ease": ("models.ease", "Ease"),
    "neumf": ("models.neumf", "NeuMF"),
}

#: Every name that :func:`recommender_class` knows, in the order of the tables.
RECOMMENDERS = tuple(_CLASSES)


def recommender_class(name: str) -> type[Recommender]:
    """The class of a name; ``RecommenderError`` lists the names when there is none."""
    if name not in _CLASSES:
        raise RecommenderError(f"unknown recommender {name!r}; choose one of {', '.join(_CLASSES)}")
    module, attribute = _CLASSES[name]
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found


def make_recommender(name: str, config: Any | None = None) -> Recommender:
    """A recommender that is not fitted yet, with its default configuration or the given one."""
    return recommender_class(name)(config)


def load_recommender(folder: Path) -> Recommender:
    """Any saved recommender: its manifest says which."""
    return recommender_class(read_manifest(folder)["recommender"]).load(folder)
