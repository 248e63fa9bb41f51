"""The recommenders by name, imported when asked for: torch takes seconds that popularity need not pay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from models.base import Recommender, read_manifest
from models.runtime.errors import RecommenderError

_CLASSES = {
    "popularity": ("models.algorithms.popularity", "Popularity"),
    "itemknn": ("models.algorithms.itemknn", "ItemKnn"),
    "content": ("models.algorithms.content_based", "ContentBased"),
    "ease": ("models.algorithms.ease", "Ease"),
    "ease_sparse": ("models.algorithms.ease_sparse", "EaseSparse"),
    "ials": ("models.algorithms.ials", "Ials"),
    "hybrid": ("models.algorithms.hybrid", "Hybrid"),
    "bpr": ("models.algorithms.bpr", "Bpr"),
    "neumf": ("models.algorithms.neumf.model", "NeuMF"),
    "flagship": ("models.algorithms.two_stage.model", "Flagship"),
    "svd": ("models.algorithms.rating.svd", "Svd"),
    "svdpp": ("models.algorithms.rating.svd", "Svdpp"),
    "als": ("models.algorithms.ials", "Als"),
    "bmf": ("models.algorithms.rating.bayesian_mf", "BayesianMF"),
}

#: Every name that :func:`recommender_class` knows, in the order of the tables.
RECOMMENDERS = tuple(_CLASSES)
#: Those that predict stars: subclasses of ``models.algorithms.rating.base.RatingRecommender``.
RATING_RECOMMENDERS = ("svd", "svdpp", "als", "bmf")
#: Those that the ranking protocols compare.
RANKING_RECOMMENDERS = tuple(name for name in RECOMMENDERS if name not in RATING_RECOMMENDERS)


def recommender_class(name: str) -> type[Recommender]:
    """Return the class of a name; raise ``RecommenderError``, which lists the names, if there is none."""
    if name not in _CLASSES:
        raise RecommenderError(f"unknown recommender {name!r}; choose one of {', '.join(_CLASSES)}")
    module, attribute = _CLASSES[name]
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found


def module_of(name: str) -> str:
    """Return the name of a recommender's module; raise ``RecommenderError`` as :func:`recommender_class` does."""
    if name not in _CLASSES:
        # Says which names there are. One that is known is not imported: torch takes seconds.
        recommender_class(name)
    return _CLASSES[name][0]


def make_recommender(name: str, config: Any | None = None) -> Recommender:
    """Create a recommender that is not fitted yet, with its default configuration or the given one."""
    return recommender_class(name)(config)


def configured(name: str, values: Mapping[str, Any]) -> Recommender:
    """Create a recommender with some fields of its configuration set; raise ``RecommenderError`` for unknown fields."""
    config_class = recommender_class(name).config_class
    unknown = set(values) - {field.name for field in fields(config_class)}
    if unknown:
        raise RecommenderError(f"{name}: has no setting {', '.join(sorted(unknown))}")
    return make_recommender(name, config_class(**values))


def load_recommender(folder: Path) -> Recommender:
    """Any saved recommender: its manifest says which."""
    return recommender_class(read_manifest(folder)["recommender"]).load(folder)
