"""The embedded sample: a MovieLens edition, all seven IMDb dumps and four streaming catalogues in their true formats.

Users have a real, drifting taste by genre, era, director and cast, so a good model beats popularity. A known handful
of rows is broken; the manifest says which. The same parameters give the same bytes on the same machine and library
versions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from orchestration.errors import Reason
from orchestration.synthetic.corrupt_rows import BrokenRow
from orchestration.synthetic.file_writers import IMDB, MOVIELENS, SampleFile, write_table
from orchestration.synthetic.genome import genome_scores, genome_tags
from orchestration.synthetic.imdb import DUMPS, IMDB_RATED, IMDB_REGIONS, World
from orchestration.synthetic.movielens import plan_tags, write_tags
from orchestration.synthetic.people import make_cast_pools, make_credits
from orchestration.synthetic.rating_simulator import CLOSED, DAY, describe_films, plan_users, rate
from orchestration.synthetic.streaming import CATALOGUES, RATING_FILES, write_streaming
from orchestration.synthetic.titles import IMDB_TYPE_SHARES, TYPE_SHARES, Catalogue, Matching, make_catalogue

#: Raised whenever the same spec would give other bytes.
SAMPLE_VERSION: Final = 8
#: The gzip header time of the dumps: some days after the last rating.
SNAPSHOT: Final = CLOSED + 5 * DAY
EDITION: Final = "sample"
MANIFEST: Final = "manifest.json"
#: The folder of the streaming catalogues.
STREAMING: Final = "streaming"
_PARTS: Final = (EDITION, "imdb", STREAMING)


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """The size of a sample. ``ratings``, ``movies`` and ``users`` are exact, before broken rows.

    Zero means derived: ``tags`` a fortieth of the ratings, ``imdb_titles`` (the movies' own among them) twice the
    movies, ``people`` twice the titles. ``tags`` is about right: a user gives a movie the same tag only once.
    ``like_imdb``: the dumps have types, votes and names in IMDb's own proportions; otherwise more of the titles are
    films and have votes.
    Raises ``ValueError`` for sizes that cannot be.
    """

    users: int = 1_000
    movies: int = 1_500
    ratings: int = 100_000
    tags: int = 0
    imdb_titles: int = 0
    people: int = 0
    seed: int = 42
    broken: bool = True
    like_imdb: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", self.tags or max(1, self.ratings // 40))
        object.__setattr__(self, "imdb_titles", self.imdb_titles or 2 * self.movies)
        object.__setattr__(self, "people", self.people or 2 * self.imdb_titles)
        if self.users < 2 or self.movies < 20 or self.ratings < self.users or self.seed < 0:
            raise ValueError(
                f"a sample has at least 2 users, 20 movies and a rating a user, and a seed of 0 or more: {self}"
            )
        # Room for the namesakes that only IMDb has, and for a series with an episode.
        least = self.movies + 20 + self.movies // 100
        if self.imdb_titles < least:
            raise ValueError(f"a sample of {self.movies:,} movies needs at least {least:,} IMDb titles: {self}")


@dataclass(frozen=True, slots=True)
class SampleManifest:
    """What a sample holds: its files, its broken rows, and the movies that are awkward to match with IMDb."""

    spec: SampleSpec
    files: tuple[SampleFile, ...]
    broken: tuple[BrokenRow, ...]
    matching: tuple[Matching, ...]
    version: int = field(default=SAMPLE_VERSION)

    def to_json(self) -> dict[str, Any]:
        """Give the manifest as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> SampleManifest:
        """Read what ``to_json`` gave. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        return SampleManifest(
            spec=SampleSpec(**values["spec"]),
            files=tuple(SampleFile(**file) for file in values["files"]),
            broken=tuple(BrokenRow(**{**row, "reason": Reason(row["reason"])}) for row in values["broken"]),
            matching=tuple(Matching(**row) for row in values["matching"]),
            version=values["version"],
        )


def read_manifest(folder: Path) -> SampleManifest | None:
    """Read the manifest of a whole sample; None where there is none, or a file of it is missing or of another size."""
    try:
        manifest = SampleManifest.from_json(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        sizes = {file.file: (_home_of(file.file, folder) / file.file).stat().st_size for file in manifest.files}
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return manifest if all(sizes[file.file] == file.size for file in manifest.files) else None


def write_sample(folder: Path, spec: SampleSpec) -> SampleManifest:
    """Write ``folder/sample/*.csv``, ``folder/imdb/*.tsv.gz``, ``folder/streaming`` and ``folder/manifest.json``.

    A sample of the same spec and code version that is whole is left as it is. Else everything is written aside and
    renamed, the manifest last: a folder without a manifest is not a sample. Raises ``ValueError`` where the ratings
    do not fit the users and movies; what was there is then untouched.
    """
    present = read_manifest(folder)
    if present is not None and present.spec == spec and present.version == SAMPLE_VERSION:
        return present
    aside = folder / ".partial"
    shutil.rmtree(aside, ignore_errors=True)
    for part in _PARTS:
        (aside / part).mkdir(parents=True)
    manifest = _write_all(aside, spec)
    (aside / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / MANIFEST).unlink(missing_ok=True)
    for part in _PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
        (aside / part).rename(folder / part)
    (aside / MANIFEST).rename(folder / MANIFEST)
    aside.rmdir()
    return manifest


def _home_of(file: str, folder: Path) -> Path:
    if file in RATING_FILES:
        return folder / STREAMING / "ratings"
    if file in {name for name, *_ in CATALOGUES}:
        return folder / STREAMING
    return folder / ("imdb" if file in DUMPS else EDITION)


def _write_all(folder: Path, spec: SampleSpec) -> SampleManifest:
    types = IMDB_TYPE_SHARES if spec.like_imdb else TYPE_SHARES
    catalogue = make_catalogue(spec.movies, spec.imdb_titles, spec.seed, types)
    people = make_cast_pools(spec.people, catalogue.years, spec.seed)
    made = make_credits(people, catalogue.years, catalogue.archetypes, spec.seed)
    films = describe_films(catalogue, people, made, spec.seed)
    users = plan_users(spec.users, spec.ratings, films.releases, spec.seed)
    tag_plan = plan_tags(spec.tags, users.counts, spec.seed)
    ids = catalogue.movies["movieId"].to_numpy()
    tags: list[pl.DataFrame] = []
    counts = np.zeros(spec.movies, dtype=np.int64)

    def ratings() -> Iterator[pl.DataFrame]:
        start = 0
        for chunk in rate(films, users, spec.seed):
            tags.append(write_tags(tag_plan, chunk, start, catalogue, people, made, spec.seed))
            start += len(chunk.users)
            counts[:] += np.bincount(chunk.movies, minlength=spec.movies)
            yield pl.DataFrame(
                {
                    "userId": chunk.users + 1,
                    "movieId": ids[chunk.movies],
                    "rating": chunk.stars,
                    "timestamp": chunk.timestamps,
                }
            )

    def tables() -> Iterator[tuple[str, Iterator[pl.DataFrame]]]:
        yield "movies.csv", iter([catalogue.movies.select("movieId", "title", "genres")])
        yield "links.csv", iter([_links(catalogue)])
        yield "ratings.csv", ratings()
        yield "tags.csv", iter([pl.concat(tags)])
        yield "genome-tags.csv", iter([genome_tags(spec.seed)])
        yield "genome-scores.csv", iter([genome_scores(films, catalogue, counts, spec.seed)])
        world = World(catalogue, people, made, spec.seed)
        if spec.like_imdb:
            world = replace(world, rated=IMDB_RATED, regional=IMDB_REGIONS)
        for dump, frames in DUMPS.items():
            yield dump, frames(world)

    files, broken = [], []
    for name, frames in tables():
        dialect = IMDB if name in DUMPS else MOVIELENS
        file, rows = write_table(
            _home_of(name, folder) / name, frames, dialect, mtime=SNAPSHOT, seed=spec.seed if spec.broken else None
        )
        files.append(file)
        broken.extend(rows)
    files.extend(write_streaming(folder / STREAMING, catalogue, people, made, spec.seed))
    (folder / EDITION / "README.txt").write_text(_readme(spec), encoding="utf-8")
    return SampleManifest(spec, tuple(files), tuple(broken), catalogue.matching)


def _links(catalogue: Catalogue) -> pl.DataFrame:
    """Give the links: of the movies without an imdbId, every second one has no row at all."""
    unlinked = np.cumsum(catalogue.movies["imdbId"].is_null().to_numpy())
    present = catalogue.movies["imdbId"].is_not_null() | pl.Series(unlinked % 2 == 0)
    return catalogue.movies.filter(present).select("movieId", "imdbId", "tmdbId")


def _readme(spec: SampleSpec) -> str:
    return f"""Summary
=======

This data set has the form of a MovieLens release and describes ratings and tags that nobody ever gave, of films that
do not exist, by people who do not either. It was generated by Marquee (seed {spec.seed}).
It contains {spec.ratings:,} ratings of {spec.movies:,} movies by {spec.users:,} users.
{"A known handful of rows is broken; ../manifest.json lists them." if spec.broken else "No row is broken."}

Files: ratings.csv, movies.csv, links.csv, tags.csv, genome-scores.csv, genome-tags.csv, as GroupLens describes them
for its own releases; ../imdb has the seven files of IMDb's data sets in the same manner, ../streaming the catalogues
of four platforms. IMDb numbers begin with tt9
and nm9, where IMDb has none: their links lead nowhere. The data may be used for anything.
"""
