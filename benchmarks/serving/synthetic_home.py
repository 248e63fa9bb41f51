"""A generated home to serve from: films with titles and makers, ratings, features, and a bundle a recommender.

Fitted for a moment only: what an answer costs does not depend on how good the weights are, but on their sizes, which
are those of the recipes' own settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.models.synthetic import generated_interactions
from benchmarks.pipeline.sizes import ML_20M_MOVIES
from models.algorithms.content_scores import fit_content
from models.algorithms.popularity import Popularity
from models.algorithms.rating.bundled_rating_model import fit_rating_head
from models.base import Recommender
from models.data.features import FeatureHistory, TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent
from models.registry import configured, module_of
from models.runtime.code_fingerprint import code_fingerprint
from models.serving.bundle import SCHEMA_VERSION, FeatureSet, write_bundle
from models.serving.movie_map import film_map
from orchestration.synthetic.people import make_cast_pools, make_credits
from orchestration.synthetic.titles import FIRST_NCONST, Catalogue, make_catalogue
from settings import Settings

#: Ids and keys of films and users start here, so that none is taken for an index.
FIRST_ID, FIRST_USER_KEY, FIRST_MOVIE_KEY = 1, 1_000_001, 5_000_001
#: What the fits are given beside the recipes' own settings: so few epochs or sweeps cost no answer anything.
SHORT_FITS: dict[str, dict[str, Any]] = {
    "neumf": {"epochs": 1, "patience": 0, "refit": False},
    "ials": {"sweeps": 1},
}
_MOMENT = datetime(2020, 1, 1)
_SERVICE = "recommender_v1"
#: Another number makes the home anew.
_LAYOUT = 4


@dataclass(frozen=True, slots=True)
class ServedSize:
    """How much there is of what."""

    films: int = ML_20M_MOVIES
    users: int = 10_000
    ratings: int = 1_000_000
    people: int = 60_000
    seed: int = 1

    @property
    def name(self) -> str:
        """As a folder is called."""
        return f"serving-{self.films}-{self.users}-{self.ratings}"


@dataclass(frozen=True, slots=True)
class MadeHome:
    """The home, and the version of each recommender's bundle in it."""

    settings: Settings
    versions: dict[str, str]
    size: ServedSize


def make_home(folder: Path, size: ServedSize, recommenders: Sequence[str], tell: Callable[[str], None]) -> MadeHome:
    """Make the home in ``folder``, reusing the bundles there that are of the same size and code."""
    settings = Settings(home=folder / size.name)
    note = settings.home / "made.json"
    facts = {"size": asdict(size), "layout": _LAYOUT, "bundle": SCHEMA_VERSION}
    made = json.loads(note.read_text()) if note.is_file() else {}
    versions: dict[str, str] = made.get("versions", {}) if made.get("facts") == facts else {}
    codes: dict[str, str] = made.get("codes", {})
    wanted = {name: code_fingerprint(module_of(name)) for name in recommenders}
    missing = [
        name
        for name in recommenders
        if codes.get(name) != wanted[name] or not (settings.models / versions.get(name, "-")).is_dir()
    ]
    if missing:
        parts = _parts(settings, size, tell)
        for name in missing:
            tell(f"{size.name}: fitting {name}")
            versions[name] = write_bundle(
                settings.models, recommender=_fitted(name, parts, size.seed), **parts["common"]
            )
            codes[name] = wanted[name]
            note.write_text(json.dumps({"facts": facts, "versions": versions, "codes": codes}, indent=1) + "\n")
    return MadeHome(settings, {name: versions[name] for name in recommenders}, size)


def _fitted(name: str, parts: dict[str, Any], seed: int) -> Recommender:
    features: TrainingFeatures = parts["features"]
    return configured(name, SHORT_FITS.get(name, {})).fit(parts["common"]["interactions"], features, seed=seed)


def _parts(settings: Settings, size: ServedSize, tell: Callable[[str], None]) -> dict[str, Any]:
    """All that the bundles share, and the feature store filled."""
    from feature_repo import store as feature_store

    tell(f"{size.name}: films, ratings and features in {settings.home}")
    rows = generated_interactions(size.users, size.films, size.ratings, seed=size.seed)
    catalogue = make_catalogue(size.films, 2 * size.films, size.seed)
    histories = _write_features(settings.features, size)
    store = feature_store.open_store(settings.feast, settings.features)
    digest = feature_store.apply(store)
    feature_store.materialize(store)
    schema = feature_store.service_schema(store)
    users = _history(histories["user_features"], "user_key", FIRST_USER_KEY, schema["user"])
    of_films = {
        view: [name for name in schema["item"] if name.startswith(f"{view}__")]
        for view in ("movie_features", "movie_content")
    }
    films = tuple(_history(histories[view], "movie_key", FIRST_MOVIE_KEY, names) for view, names in of_films.items())
    times = rows.timestamps + int((_MOMENT - datetime(1970, 1, 1)).total_seconds())
    rows = Interactions.of(rows.users, rows.items, rows.ratings, times, n_users=size.users, n_items=size.films)
    features = TrainingFeatures(users.as_of(rows.users, times), users.names, films)
    items = _items(catalogue, rows, size)
    tell(f"{size.name}: the model of stars and the map")
    return {
        "features": features,
        "common": {
            "popularity": Popularity().fit(rows),
            "items": items,
            "users": pl.DataFrame(
                {"user_id": np.arange(size.users) + FIRST_ID, "user_key": np.arange(size.users) + FIRST_USER_KEY}
            ),
            "interactions": rows,
            "item_features": features.items_as_of(np.arange(size.films), np.full(size.films, times.max())),
            "features": FeatureSet(_SERVICE, digest, tuple(schema["user"]), tuple(schema["item"]), f"{_MOMENT:%FT%TZ}"),
            "data_snapshot": {"edition": "generated"},
            "rating": fit_rating_head(rows, seed=size.seed),
            "credits": _credits(catalogue, size),
            "film_map": _film_map(items, rows, size),
            "content": fit_content(rows, _words(size)),
        },
    }


def _items(catalogue: Catalogue, rows: Interactions, size: ServedSize) -> pl.DataFrame:
    titles = catalogue.titles[catalogue.rows[: size.films]]
    index = np.arange(size.films)
    links = "https://www.imdb.com/title/" + titles["tconst"] + "/"
    return pl.DataFrame(
        {
            "movie_key": index + FIRST_MOVIE_KEY,
            "movie_id": (index + FIRST_ID).astype(np.int32),
            "title": titles["primary_title"],
            "year": pl.Series(catalogue.movie_years[: size.films]).cast(pl.Int32),
            "genres": catalogue.movies["genres"][: size.films].fill_null("").str.split("|"),
            "imdb_id": titles["tconst"],
            "link_url": links,
            "link_kind": ["imdb_title"] * size.films,
            "rating_count": rows.item_counts().astype(np.int32),
        }
    )


def _film_map(items: pl.DataFrame, rows: Interactions, size: ServedSize) -> pl.DataFrame:
    places = film_map(rows, items["genres"].to_list(), seed=size.seed)
    return items.select("movie_key").with_columns(pl.Series("x", places[:, 0]), pl.Series("y", places[:, 1]))


def _words(size: ServedSize) -> ItemContent:
    """20 words a film out of 5,000, as wide as where the fits' memory is measured: they say nothing."""
    drawn = np.random.default_rng(size.seed).integers(0, 5_000, 20 * size.films)
    words = pl.DataFrame({"item": np.repeat(np.arange(size.films), 20), "word": [f"tag:{word}" for word in drawn]})
    return ItemContent.of(words, np.full(size.films, np.nan, dtype=np.float32))


def _credits(catalogue: Catalogue, size: ServedSize) -> pl.DataFrame:
    """Who made each film: directors, cast and writers."""
    people = make_cast_pools(size.people, catalogue.years, size.seed)
    drawn = make_credits(people, catalogue.years, catalogue.archetypes, size.seed)
    film_rows = catalogue.rows[: size.films]
    parts = []
    for category, who in (("director", drawn.directors), ("actor", drawn.cast), ("writer", drawn.writers)):
        made = who[film_rows]
        films = np.repeat(np.arange(size.films), made.shape[1])
        parts.append(pl.DataFrame({"person": made.ravel(), "movie_key": films + FIRST_MOVIE_KEY, "category": category}))
    rows = pl.concat(parts).filter(pl.col("person") >= 0).unique(maintain_order=True)
    numbers = rows["person"].cast(pl.Int64)
    return rows.select(
        pl.format("nm{}", pl.lit(numbers) + FIRST_NCONST).alias("nconst"),
        people.names.gather(numbers).alias("name"),
        pl.Series("birth_year", people.births[numbers.to_numpy()].astype(np.int32)),
        pl.lit(None, dtype=pl.Int32).alias("death_year"),
        "movie_key",
        "category",
    )


def _write_features(folder: Path, size: ServedSize) -> dict[str, pl.DataFrame]:
    """Write one row per key of every view, as wide as the feature service's; the numbers mean nothing."""
    from feature_repo.features import VIEWS

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(size.seed)
    frames = {}
    for view in VIEWS:
        of_users = view.entities == ["user"]
        key = "user_key" if of_users else "movie_key"
        count, first = (size.users, FIRST_USER_KEY) if of_users else (size.films, FIRST_MOVIE_KEY)
        columns: dict[str, Any] = {key: np.arange(count) + first}
        columns["feature_timestamp"] = pl.Series([_MOMENT - timedelta(days=1)] * count, dtype=pl.Datetime("us"))
        for field in view.features:
            whole = str(field.dtype).startswith("Int")
            columns[field.name] = rng.integers(0, 200, count).astype(np.int32) if whole else rng.random(count)
        frames[view.name] = pl.DataFrame(columns)
        frames[view.name].write_parquet(folder / f"{view.name}.parquet")
    return frames


def _history(frame: pl.DataFrame, key: str, first: int, names: Sequence[str]) -> FeatureHistory:
    values = frame.select(name.split("__")[1] for name in names).cast(pl.Float32).to_numpy()
    return FeatureHistory.of(
        frame[key].to_numpy() - first, frame["feature_timestamp"].dt.epoch("s").to_numpy(), values, names
    )
