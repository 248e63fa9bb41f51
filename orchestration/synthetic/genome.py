"""The tag genome of the sample: how much each of a few tags says of each film that enough users have rated."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from orchestration.synthetic.random_streams import Purpose, stream
from orchestration.synthetic.rating_simulator import Films
from orchestration.synthetic.titles import GENRES, Catalogue
from orchestration.synthetic.word_lists import MOODS

TAGS: Final = 40
#: A film with fewer ratings has no genome.
LEAST_RATINGS: Final = 20
#: GroupLens' relevances are multiples of this.
STEP: Final = 0.00025
#: A tag fits few films well: how steeply relevance rises with the fit, and where it reaches a half (in deviations).
STEEPNESS: Final = 1.6
HALF: Final = 1.2
#: What no property of the film explains, in deviations.
CHANCE: Final = 0.5


def _words(seed: int) -> list[str]:
    """Return the tags in the order of their numbers, which is alphabetical: some are names of genres, others moods."""
    pool = sorted({word.lower() for word in (*MOODS, *GENRES)})
    return sorted(stream(seed, Purpose.GENOME).choice(pool, TAGS, replace=False).tolist())


def genome_tags(seed: int) -> pl.DataFrame:
    """Give the tags: (tagId, tag)."""
    words = _words(seed)
    return pl.DataFrame({"tagId": np.arange(1, len(words) + 1), "tag": words})


def genome_scores(films: Films, catalogue: Catalogue, counts: npt.NDArray[np.int64], seed: int) -> pl.DataFrame:
    """Give (movieId, tagId, relevance in [0, 1]) of each film with enough of the ``counts`` int64[M] ratings, and tag.

    A mood is a direction in the space of what films are, in which users' tastes lie too; a genre's tag fits the films
    of the genre.
    """
    rated = np.flatnonzero(counts >= LEAST_RATINGS)
    words = _words(seed)
    rng = stream(seed, Purpose.GENOME, 1)
    spread = films.vectors.std(axis=0) + 1e-6
    fits = ((films.vectors[rated] - films.vectors.mean(axis=0)) / spread) @ rng.standard_normal(
        (films.vectors.shape[1], len(words))
    )
    fits /= np.sqrt(films.vectors.shape[1])
    genres = {genre.lower(): code for code, genre in enumerate(GENRES)}
    codes = catalogue.genres[catalogue.rows[rated]]
    for place, word in enumerate(words):
        if word in genres:
            fits[:, place] = np.where((codes == genres[word]).any(axis=1), 2.2, -0.3)
    fits += CHANCE * rng.standard_normal(fits.shape)
    relevance = np.round(1 / (1 + np.exp(-STEEPNESS * (fits - HALF))) / STEP) * STEP
    return pl.DataFrame(
        {
            "movieId": np.repeat(catalogue.movies["movieId"].to_numpy()[rated], len(words)),
            "tagId": np.tile(np.arange(1, len(words) + 1), len(rated)),
            "relevance": np.round(relevance, 5).reshape(-1),
        }
    )
