"""The sizes that are measured, and their generated input, which is kept and used again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestration.synthetic.sample import SampleManifest, SampleSpec, write_sample

#: ML-20M as GroupLens counts it.
ML_20M_RATINGS, ML_20M_USERS, ML_20M_MOVIES, ML_20M_TAGS = 20_000_263, 138_493, 27_278, 465_564
#: The full dumps: titles, and people.
IMDB_TITLES, IMDB_PEOPLE = 11_000_000, 14_000_000
#: A tenth of ML-20M, the geometric middle, and all of it.
RATINGS = (2_000_026, 6_324_638, ML_20M_RATINGS)
#: The share of the full dumps that goes with all of ML-20M; smaller sizes get it in proportion.
IMDB_SHARE = 0.25
#: What input, warehouse and what DuckDB spills take, a rating: 2.6 GB were seen at 20M ratings.
_DISK_BYTES_A_RATING = 500


@dataclass(frozen=True)
class Size:
    """One size: the number of ratings, and the IMDb dumps as a share of the full ones; all else is in proportion."""

    ratings: int
    imdb_share: float

    @property
    def name(self) -> str:
        """As a folder is called."""
        return f"ratings-{self.ratings}-imdb-{self.imdb_share:g}"

    @property
    def spec(self) -> SampleSpec:
        """What is generated: no row is broken, and the dumps are as IMDb's are."""
        share = self.ratings / ML_20M_RATINGS
        # Enough for some of each awkward kind, and for a user to choose from.
        movies = max(300, round(ML_20M_MOVIES * share))
        return SampleSpec(
            users=max(10, round(ML_20M_USERS * share)),
            movies=movies,
            ratings=self.ratings,
            tags=round(ML_20M_TAGS * share),
            imdb_titles=max(2 * movies, round(IMDB_TITLES * self.imdb_share)),
            people=round(IMDB_PEOPLE * self.imdb_share),
            broken=False,
            like_imdb=True,
        )


def size_of(ratings: int, top_share: float = IMDB_SHARE) -> Size:
    """Return the size with ``ratings`` ratings: ``top_share`` of the dumps at 20M, in proportion below."""
    return Size(ratings, round(top_share * ratings / ML_20M_RATINGS, 4))


def generate(folder: Path, size: Size, tell: Callable[[str], None]) -> tuple[Path, SampleManifest]:
    """Return the folder of a size's files and its manifest; generate the files unless they exist.

    Raises ``OSError`` if the disk cannot hold input and warehouse.
    """
    place = folder / size.name
    place.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(place).free, size.ratings * _DISK_BYTES_A_RATING
    if free < needed:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB free; {size.name} needs about {needed / 1e9:.1f} GB")
    tell(f"{size.name}: input in {place}")
    return place, write_sample(place, size.spec)
