"""The dbt project, built through dbt itself on a few raw rows made by hand.

One folder and one warehouse path serve all builds, so that dbt parses the project once; each build's tables are read
into memory before the next one starts.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from bento.features.refresher import features_now
from orchestration.ingestion.raw_tables import TABLES
from orchestration.lib.column_lineage import column_lineage, warehouse_schema
from orchestration.lib.dbt_project import MartTranslator
from orchestration.visualization import mart_charts as plots
from tests.unit.dbt.warehouses import EDITION, PROJECT, Warehouse

REAL_DATA = Path(os.environ.get("MARQUEE_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


#: movieId, title, genres.
MOVIES = [
    (1, "Lantern Keeper, The (1999)", "Drama|Thriller"),
    (2, "Seventh Bell, The (Sjunde klockan, Den) (1957)", "Drama"),
    (3, "Hush (2001)", "Horror"),
    (4, "Amélie's Clock & Dagger (1995)", "Comedy|Children's"),
    (5, "Near Miss (1980)", "Comedy"),
    (6, "Twin Rivers (1990)", "Western"),
    (7, "Twin Rivers (1990)", "Western"),
    (8, "Bell Episode (1957)", "Drama"),
    (9, "unknown", "(no genres listed)"),
    (10, "Nowhere Found (2004)", "Sci-Fi|IMAX"),
    (11, "Alias (a.k.a. Paper Boat, The) (1988)", "Drama"),
    (12, "Hush Again (Hush) (2001)", "Horror"),
]
#: tconst, titleType, primaryTitle, originalTitle, startYear, genres.
TITLES = [
    ("tt0000011", "movie", "The Lantern Keeper", "The Lantern Keeper", 1999, "Drama"),
    ("tt0000021", None, "The Seventh Bell", "Den sjunde klockan", 1957, "Drama"),
    ("tt0000031", "movie", "Hush", "Hush", 2001, "Horror"),
    ("tt0000032", "movie", "Hush", "Hush", 2001, "Horror"),
    ("tt0000041", "movie", "Amelies Clock and Dagger", "Amélie", 1995, "Comedy"),
    ("tt0000051", "movie", "Near Miss", "Near Miss", 1981, "Comedy"),
    ("tt0000061", "movie", "Twin Rivers", "Twin Rivers", 1990, "Western"),
    ("tt0000081", "tvEpisode", "Bell Episode", "Bell Episode", 1957, "Drama"),
    ("tt0000111", "movie", "Pappersbåten", "Pappersbåten", 1988, "Drama"),
    # MovieLens has none of these: two films with enough votes, one with too few, and a series.
    ("tt0000201", "movie", "Only Here", "Endast här", 2020, "Biography,Family,Drama"),
    ("tt0000202", None, "Of Unknown Type", "Of Unknown Type", 2021, None),
    ("tt0000203", "movie", "Hardly Seen", "Hardly Seen", 2020, "Drama"),
    ("tt0000204", "tvSeries", "The Bells", "The Bells", 1956, "Drama"),
]
#: tconst, averageRating, numVotes.
VOTES = [
    ("tt0000031", 6.0, 5),
    ("tt0000032", 7.5, 90),
    ("tt0000201", 8.0, 50),
    ("tt0000202", 5.5, 4000),
    ("tt0000203", 8.0, 49),
    ("tt0000204", 9.0, 5000),
]
#: userId, movieId, rating, time.
RATINGS = [
    (1, 1, 4.0, "2000-01-01T00:00:00"),
    (1, 4, 2.0, "2000-01-01T23:59:59"),
    (1, 9, 5.0, "2000-01-05T12:00:00"),
    (1, 6, 3.0, "2000-01-05T12:00:01"),
    (1, 7, 5.0, "2000-01-08T08:00:00"),
    (2, 1, 1.0, "2000-01-02T00:00:00"),
    (2, 7, 3.0, "2000-01-02T10:00:00"),
    (3, 99, 5.0, "2000-01-03T10:00:00"),
]
TIMESTAMP = "feature_timestamp"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp("dbt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_WAREHOUSE", str(folder / "warehouse.duckdb"))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        patch.setenv("MARQUEE_CATALOGUE_MIN_VOTES", "50")
        yield Warehouse(folder)


@pytest.fixture(scope="module")
def first(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """All tables after a full build of the rows above, unit tests included."""
    warehouse.reset()
    warehouse.insert("ml_movies", 'edition, "movieId", title, genres', [(EDITION, *movie) for movie in MOVIES])
    warehouse.insert(
        "imdb_title_basics", 'tconst, "titleType", "primaryTitle", "originalTitle", "startYear", genres', list(TITLES)
    )
    warehouse.insert("imdb_title_ratings", 'tconst, "averageRating", "numVotes"', VOTES)
    warehouse.insert(
        "imdb_title_akas",
        '"titleId", ordering, title, region',
        [("tt0000111", 1, "The Paper Boat", None), ("tt0000201", 1, "Nur hier", "DE"), ("tt0000203", 1, "Kaum", "DE")],
    )
    warehouse.insert("imdb_title_episode", 'tconst, "parentTconst", "seasonNumber"', [("tt0000081", "tt0000204", 1)])
    warehouse.insert(
        "imdb_title_principals",
        "tconst, ordering, nconst, category",
        [("tt0000201", 1, "nm1", "actress"), ("tt0000203", 1, "nm2", "actor")],
    )
    warehouse.insert("imdb_title_crew", "tconst, directors, writers", [("tt0000011", "nm2,nm1", "nm1")])
    warehouse.insert("imdb_name_basics", 'nconst, "primaryName"', [("nm1", "Ann Vale"), ("nm2", "Ben Osk")])
    warehouse.insert(
        "ml_tags",
        'edition, "userId", "movieId", tag, "timestamp"',
        [(EDITION, 1, 6, "River", 5), (EDITION, 2, 7, " river", 5), (EDITION, 1, 3, "loud", 5)],
    )
    warehouse.insert("ml_genome_tags", 'edition, "tagId", tag', [(EDITION, 1, "river"), (EDITION, 2, "quiet")])
    warehouse.insert(
        "ml_genome_scores",
        'edition, "movieId", "tagId", relevance',
        [(EDITION, 6, 1, 0.75), (EDITION, 7, 1, 0.975), (EDITION, 6, 2, 0.02875)],
    )
    warehouse.insert("loads", "table_name, snapshot_at", [("imdb_title_ratings", dt.datetime(2025, 3, 1, 4, 5))])
    warehouse.add_ratings(RATINGS)
    warehouse.dbt("build")
    return warehouse.marts()


@pytest.fixture(scope="module")
def second(warehouse: Warehouse, first: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All tables after a second batch: lower ids, a title for a film without match, a film that only IMDb had."""
    warehouse.insert("ml_movies", 'edition, "movieId", title, genres', [(EDITION, 0, "Early One (1970)", "War")])
    warehouse.insert(
        "imdb_title_basics",
        'tconst, "titleType", "primaryTitle", "originalTitle", "startYear"',
        [("tt0000101", "movie", "Nowhere Found", "Nowhere Found", 2004)],
    )
    warehouse.insert("ml_movies", 'edition, "movieId", title, genres', [(EDITION, 300, "Only Here (2020)", "Drama")])
    warehouse.add_ratings([(0, 0, 4.5, "2001-01-01T00:00:00"), (1, 2, 0.5, "2001-01-01T00:00:00")])
    # A later dump: one film is rated for the first time, and the other's values are repeated.
    warehouse.insert("imdb_title_ratings", 'tconst, "averageRating", "numVotes"', [("tt0000011", 8.1, 7)])
    warehouse.execute("UPDATE raw.loads SET snapshot_at = '2025-03-08 04:05:00'")
    warehouse.dbt("run", "--select", "+dim_movies", "movie_imdb")
    return warehouse.marts()


@pytest.fixture(scope="module")
def rerated(warehouse: Warehouse, second: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All tables after people rated again: under a movie's other id in the file, and in the app."""
    rng = np.random.default_rng(5)
    start = dt.datetime(2010, 1, 1)

    def moment(first_day: int) -> dt.datetime:
        return start + dt.timedelta(days=int(rng.integers(first_day, 9)), hours=int(rng.integers(24)))

    def stars() -> float:
        return float(rng.integers(1, 11)) / 2

    # The two ids of one movie in the same second: the higher id stands.
    in_file = [(20, 6, 4.5, "2010-01-01T00:00:00"), (20, 7, 1.0, "2010-01-01T00:00:00")]
    in_app = []
    keys = {movie: row["movie_key"] for row in second["dim_movies"] for movie in row["movie_ids"]}
    for user in range(21, 51):
        movies = rng.choice(np.arange(1, 13), size=int(rng.integers(1, 9)), replace=False).tolist()
        in_file += [(user, movie, stars(), moment(0).isoformat()) for movie in movies]
        if user % 3:
            again = rng.permutation(sorted({keys[movie] for movie in (*movies, 3)}))[: int(rng.integers(1, 5))].tolist()
            in_app += [(EDITION, user, key, EDITION, 1, stars(), moment(3)) for key in again]
    in_app += [("app", 1_000_000_001, keys[movie], EDITION, movie, stars(), moment(0)) for movie in (1, 6, 9)]
    warehouse.add_ratings(in_file)
    warehouse.insert("app_users", "source, source_id", [("app", 1_000_000_001)])
    warehouse.insert("app_ratings", "source, source_id, movie_key, edition, movie_id, rating, rated_at", in_app)
    ratings = ("int_user_keys", "int_ratings_keyed", "int_replaced_ratings", "fct_ratings")
    warehouse.dbt("run", "--select", *ratings, "movie_content", "user_features", "movie_features")
    warehouse.dbt("test", "--select", "user_history_ends_at_all_ratings", "movie_history_ends_at_all_ratings")
    return warehouse.marts()


@pytest.fixture(scope="module")
def empty(warehouse: Warehouse, rerated: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All tables after a build with data tests on ratings and movies alone: no dump, no links, tags or users."""
    warehouse.reset()
    warehouse.insert("ml_movies", 'edition, "movieId", title, genres', [(EDITION, *movie) for movie in MOVIES])
    warehouse.add_ratings(RATINGS)
    warehouse.dbt("build", "--exclude-resource-type", "unit_test")
    return warehouse.marts()


def test_no_test_reads_a_model_that_may_be_built_after_the_one_it_judges(
    warehouse: Warehouse, first: dict[str, Any]
) -> None:
    """A wave builds and tests layer by layer: a fact would be judged against a dimension that is yet to follow."""
    manifest = json.loads((warehouse.path.parent / "target" / "manifest.json").read_text())

    def ancestors(name: str) -> set[str]:
        found: set[str] = set()
        ahead = [name]
        while ahead:
            parents = set(manifest["parent_map"][ahead.pop()]) - found
            found |= parents
            ahead += parents
        return found

    judged = 0
    for name, test in manifest["nodes"].items():
        if test["resource_type"] != "test":
            continue
        ref = test["config"].get("meta", {}).get("dagster", {}).get("ref", {}).get("name")
        model = test.get("attached_node") or f"model.marquee.{ref}"
        assert {*test["depends_on"]["nodes"]} <= {model} | ancestors(model), name
        judged += 1
    assert judged > 50


def _by(rows: list[dict[str, Any]], *names: str) -> dict[Any, dict[str, Any]]:
    return {row[names[0]] if len(names) == 1 else tuple(row[name] for name in names): row for row in rows}


@pytest.mark.parametrize(
    ("movie", "tconst", "method", "confidence"),
    [
        pytest.param(1, "tt0000011", "title_year", "0.95", id="an article behind the title is moved"),
        pytest.param(2, "tt0000021", "title_year", "0.95", id="a title of unknown type may be a film"),
        pytest.param(3, "tt0000032", "title_year", "0.85", id="votes decide between namesakes of one year"),
        pytest.param(4, "tt0000041", "title_year", "0.95", id="accents, apostrophes and ampersands do not matter"),
        pytest.param(5, "tt0000051", "near_year", "0.70", id="a year apart is a weaker match"),
        pytest.param(8, None, "unmatched", "0.00", id="an episode is no film"),
        pytest.param(9, None, "unmatched", "0.00", id="a title without a year is not guessed"),
        pytest.param(10, None, "unmatched", "0.00", id="a film that IMDb does not have stays unmatched"),
        pytest.param(11, "tt0000111", "aka_title_year", "0.85", id="two alternative titles meet"),
        pytest.param(12, None, "unmatched", "0.00", id="a fuzzy claim on a claimed title loses"),
        pytest.param(99, None, "unmatched", "0.00", id="a rated movie without a row is kept"),
    ],
)
def test_movies_match_imdb_by_title_and_year(
    first: dict[str, Any], movie: int, tconst: str | None, method: str, confidence: str
) -> None:
    row = _by(first["dim_movies"], "movie_id")[movie]
    assert (row["tconst"], row["match_method"], str(row["match_confidence"])) == (tconst, method, confidence)


def test_a_matched_film_shows_what_both_sources_say(first: dict[str, Any]) -> None:
    row = _by(first["dim_movies"], "movie_id")[1]
    assert row["title"] == "The Lantern Keeper"
    assert (row["year"], row["decade"], row["main_genre"]) == (1999, 1990, "Thriller")
    assert row["directors"] == ["Ben Osk", "Ann Vale"]
    assert row["link_url"] == "https://www.imdb.com/title/tt0000011/"


def test_two_ids_of_one_film_are_one_row_under_the_more_rated_id(first: dict[str, Any]) -> None:
    row = _by(first["dim_movies"], "movie_id")[7]
    assert row["movie_ids"] == [6, 7]
    assert row["rating_count"] == 2
    assert 6 not in _by(first["dim_movies"], "movie_id")


def test_the_latest_of_two_ratings_of_one_film_stands(first: dict[str, Any]) -> None:
    users, movies = _by(first["dim_users"], "user_id"), _by(first["dim_movies"], "movie_id")
    row = _by(first["fct_ratings"], "user_key", "movie_key")[users[1]["user_key"], movies[7]["movie_key"]]
    assert (float(row["rating"]), row["times_rated"]) == (5.0, 2)
    assert sum(rating["times_rated"] for rating in first["fct_ratings"]) == len(RATINGS)


def test_each_history_row_equals_a_recount_of_the_raw_ratings_strictly_before_it(first: dict[str, Any]) -> None:
    user_ids = {row["user_key"]: row["user_id"] for row in first["dim_users"]}
    films = {movie: row for row in first["dim_movies"] for movie in row["movie_ids"]}
    assert len(first["user_features"]) == 5
    for row in first["user_features"]:
        # Of several ratings of one film, here under its two ids, the latest of these.
        given = [
            (movie, stars, when)
            for user, movie, stars, when in sorted(RATINGS, key=lambda rating: rating[3])
            if user == user_ids[row["user_key"]] and dt.datetime.fromisoformat(when) < row["feature_timestamp"]
        ]
        before = list({films[rating[0]]["movie_key"]: rating for rating in given}.values())
        stars = [star for _, star, _ in before]
        mean = sum(stars) / len(stars)
        years = [films[movie]["year"] for movie, _, _ in before if films[movie]["year"] is not None]
        days = {when[:10] for _, _, when in before}
        first_day = dt.datetime.fromisoformat(min(days))
        assert row["rating_count"] == len(before)
        assert row["rating_mean"] == pytest.approx(mean, abs=1e-6)
        assert row["rating_stddev"] == pytest.approx(
            math.sqrt(sum((star - mean) ** 2 for star in stars) / len(stars)), abs=1e-6
        )
        assert row["positive_share"] == pytest.approx(sum(star >= 4 for star in stars) / len(stars), abs=1e-6)
        assert row["active_days"] == len(days)
        assert row["days_since_first"] == (row["feature_timestamp"] - first_day).days
        assert row["mean_release_year"] == (pytest.approx(sum(years) / len(years), abs=1e-6) if years else None)
        for genre in ("Drama", "Comedy", "Children", "Western"):
            share = sum(genre in films[movie]["genres"] for movie, _, _ in before) / len(before)
            assert row[f"genre_share_{genre.lower()}"] == pytest.approx(share, abs=1e-6), genre


def _standing(ratings: list[dict[str, Any]], before: dt.datetime) -> list[dict[str, Any]]:
    """Of each user and movie the latest rating given before a moment."""
    known = [row for row in ratings if row["rated_at"] < before]
    known.sort(key=lambda row: (row["rated_at"], row["movie_id"], row["rating"]))
    return list({(row["user_key"], row["movie_key"]): row for row in known}.values())


def _pushed(tables: dict[str, list[dict[str, Any]]], ratings: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the features that the service pushes for a user with these ratings."""
    index = {row["movie_key"]: number for number, row in enumerate(tables["movie_content"])}
    names = [name for name in tables["movie_content"][0] if name == "release_year" or name.startswith("is_")]
    values = [[row[name] for name in names] for row in tables["movie_content"]]
    return dict(
        features_now(
            [f"movie_content__{name}" for name in names],
            np.array(values, dtype=np.float32),
            np.array([index[row["movie_key"]] for row in ratings]),
            np.array([row["rating"] for row in ratings], dtype=np.float32),
            np.array([int(row["rated_at"].replace(tzinfo=dt.UTC).timestamp()) for row in ratings]),
        )
    )


def test_the_push_and_the_mart_give_the_same_features_for_the_same_ratings(rerated: dict[str, Any]) -> None:
    """Every column of every user's newest row, from the ratings that stand in fct_ratings."""
    newest = _by(sorted(rerated["user_features"], key=lambda row: row["feature_timestamp"]), "user_key")
    assert len(newest) > 30
    assert sum(row["times_rated"] > 1 for row in rerated["fct_ratings"]) > 20
    for key, row in newest.items():
        own = [rating for rating in rerated["fct_ratings"] if rating["user_key"] == key]
        assert _pushed(rerated, own) == {name: row[name] for name in row if name not in ("user_key", TIMESTAMP)}


def test_a_row_of_user_features_counts_the_ratings_that_stood_at_its_time(rerated: dict[str, Any]) -> None:
    for row in rerated["user_features"]:
        own = [rating for rating in rerated["int_ratings_keyed"] if rating["user_key"] == row["user_key"]]
        known = _pushed(rerated, _standing(own, row[TIMESTAMP]))
        # The service speaks of the day of the newest rating, which is that before the row's midnight.
        assert known == {name: row[name] for name in known}
    history = sorted(rerated["user_features"], key=lambda row: (row["user_key"], row[TIMESTAMP]))
    same_user = [(a, b) for a, b in pairwise(history) if a["user_key"] == b["user_key"]]
    assert any(b["active_days"] < a["active_days"] for a, b in same_user), "some day must have lost its ratings"
    assert any(b[TIMESTAMP] - dt.timedelta(b["days_since_first"]) > a[TIMESTAMP] for a, b in same_user)


def test_a_row_of_movie_features_counts_the_ratings_that_stood_at_its_time(rerated: dict[str, Any]) -> None:
    for row in rerated["movie_features"]:
        own = [rating for rating in rerated["int_ratings_keyed"] if rating["movie_key"] == row["movie_key"]]
        known = _standing(own, row[TIMESTAMP])
        stars = [float(rating["rating"]) for rating in known]
        assert row["rating_count"] == len(known)
        assert row["rating_mean"] == pytest.approx(np.mean(stars), abs=1e-6)
        assert row["rating_stddev"] == pytest.approx(np.std(stars), abs=1e-6)
        assert row["positive_share"] == pytest.approx(np.mean([star >= 4 for star in stars]), abs=1e-6)
        first = min(rating["rated_at"] for rating in known).date()
        assert row["days_since_first"] == (row[TIMESTAMP].date() - first).days


def test_a_rating_at_midnight_belongs_to_the_day_it_begins(first: dict[str, Any]) -> None:
    keys = {row["movie_id"]: row["movie_key"] for row in first["dim_movies"]}
    history = sorted(
        (row["feature_timestamp"].isoformat()[:10], row["rating_count"])
        for row in first["movie_features"]
        if row["movie_key"] == keys[1]
    )
    assert history == [("2000-01-02", 1), ("2000-01-03", 2)]


def test_imdb_ratings_carry_the_time_of_their_dump(first: dict[str, Any]) -> None:
    dumped = dt.datetime(2025, 3, 1, 4, 5)
    found = [(row["feature_timestamp"], row["imdb_rating"], row["imdb_votes"]) for row in first["movie_imdb"]]
    assert sorted(found) == [(dumped, 5.5, 4000), (dumped, 7.5, 90), (dumped, 8.0, 50)]


def test_a_value_that_a_later_dump_repeats_keeps_the_time_at_which_it_was_first_seen(second: dict[str, Any]) -> None:
    tconsts = {row["movie_key"]: row["tconst"] for row in second["dim_movies"]}
    seen: dict[str, list[dt.datetime]] = {}
    for row in second["movie_imdb"]:
        seen.setdefault(tconsts[row["movie_key"]], []).append(row["feature_timestamp"])
    assert seen["tt0000011"] == [dt.datetime(2025, 3, 8, 4, 5)]
    assert seen["tt0000032"] == [dt.datetime(2025, 3, 1, 4, 5)]


def test_a_films_tags_are_those_of_the_genome_and_of_its_users_once_each(first: dict[str, Any]) -> None:
    keys = {row["movie_id"]: row["movie_key"] for row in first["dim_movies"]}
    found = sorted((row["movie_key"], row["tag"], row["relevance"], row["user_count"]) for row in first["movie_tags"])
    assert [(key, tag, users) for key, tag, _, users in found] == sorted(
        [(keys[7], "quiet", 0), (keys[7], "river", 2), (keys[3], "loud", 1)]
    )
    relevances = {(key, tag): relevance for key, tag, relevance, _ in found}
    assert relevances[keys[7], "river"] == pytest.approx(0.975)
    assert relevances[keys[7], "quiet"] == pytest.approx(0.02875)
    assert relevances[keys[3], "loud"] is None


def test_keys_never_change_when_a_second_batch_arrives(first: dict[str, Any], second: dict[str, Any]) -> None:
    for table, key, ident in (("int_user_keys", "user_key", 0), ("int_movie_keys", "movie_key", 0)):
        before, after = _by(first[table], "source", "source_id"), _by(second[table], "source", "source_id")
        assert len(after) > len(before)
        assert {name: row[key] for name, row in before.items()} == {name: after[name][key] for name in before}
        assert max(row[key] for row in before.values()) == len({row[key] for row in before.values()})
        newest = after[EDITION, str(ident)][key]
        assert newest > max(row[key] for row in before.values())


def test_a_film_that_gets_a_match_later_keeps_its_key(first: dict[str, Any], second: dict[str, Any]) -> None:
    before, after = _by(first["dim_movies"], "movie_id")[10], _by(second["dim_movies"], "movie_id")[10]
    assert (before["tconst"], after["tconst"]) == (None, "tt0000101")
    assert before["movie_key"] == after["movie_key"]
    assert [row["movie_key"] for row in second["dim_movies"]].count(after["movie_key"]) == 1


def test_films_with_enough_votes_that_movielens_lacks_are_in_the_catalogue_and_marked(first: dict[str, Any]) -> None:
    only = {row["tconst"]: row for row in first["dim_movies"] if not row["in_movielens"]}
    assert set(only) == {"tt0000201", "tt0000202"}
    film = only["tt0000201"]
    assert (film["edition"], film["movie_id"], film["movie_ids"], film["rating_count"]) == (None, None, [], 0)
    assert (film["title"], film["year"], film["genres"]) == ("Only Here", 2020, ["Children", "Drama"])
    assert (film["match_method"], film["principal_cast"]) == ("imdb_only", ["Ann Vale"])
    held = [row["movie_key"] for row in first["dim_movies"] if row["in_movielens"]]
    assert min(row["movie_key"] for row in only.values()) > max(held)


def test_a_film_that_only_imdb_has_is_described_like_any_other_and_rated_by_nobody(first: dict[str, Any]) -> None:
    key = _by(first["dim_movies"], "tconst")["tt0000201"]["movie_key"]
    assert _by(first["movie_content"], "movie_key")[key]["is_children"] == 1
    assert {row["genre"] for row in first["bridge_movie_genres"] if row["movie_key"] == key} == {"Children", "Drama"}
    assert [row["nconst"] for row in first["fct_credits"] if row["movie_key"] == key] == ["nm1"]
    titles = {(row["kind"], row["title"], row["region"]) for row in first["movie_titles"] if row["movie_key"] == key}
    assert titles == {("primary", "Only Here", None), ("original", "Endast här", None), ("aka", "Nur hier", "DE")}
    for mart in ("fct_ratings", "movie_features"):
        assert key not in {row["movie_key"] for row in first[mart]}


def test_a_film_that_movielens_gains_keeps_the_key_it_had_while_only_imdb_had_it(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    before, after = (_by(tables["dim_movies"], "tconst")["tt0000201"] for tables in (first, second))
    assert (before["in_movielens"], after["in_movielens"], after["movie_id"]) == (False, True, 300)
    assert before["movie_key"] == after["movie_key"]
    assert "tt0000202" in _by(second["dim_movies"], "tconst")


def test_a_model_that_reads_a_setting_has_a_code_version_of_its_value(
    warehouse: Warehouse, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((warehouse.path.parent / "target" / "manifest.json").read_text())
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    versions = []
    for votes in ("50", "51"):
        monkeypatch.setenv("MARQUEE_CATALOGUE_MIN_VOTES", votes)
        versions.append({node["name"]: MartTranslator().get_code_version(node) for node in models})
    assert len(versions[0]) > 30
    assert {name for name in versions[0] if versions[0][name] != versions[1][name]} == {"int_imdb_only_films"}


def test_every_column_of_every_model_can_be_traced(warehouse: Warehouse, first: dict[str, Any]) -> None:
    compiled = warehouse.path.parent / "target" / "compiled" / "marquee" / "models"
    with duckdb.connect(warehouse.path, read_only=True) as con:
        schema = warehouse_schema(con)
    # A folder that is called like a .yml holds the tests of models, and what unit tests give for a model by its name.
    models = [path for path in compiled.rglob("*.sql") if path.parent.suffix != ".yml"]
    found = {path.stem: column_lineage(path.read_text(), schema) for path in models}
    assert set(first) <= set(found)
    assert all(found.values())
    assert ("intermediate.int_catalogue_titles", "genres") in found["dim_movies"]["genres"]


def test_episodes_of_series_that_nobody_holds_are_left_out(first: dict[str, Any]) -> None:
    assert first["fct_episodes"] == []
    assert "tt0000204" not in _by(first["dim_movies"], "tconst")


def test_every_model_builds_without_dumps_links_tags_and_users(empty: dict[str, Any]) -> None:
    assert {row["match_method"] for row in empty["dim_movies"]} == {"unmatched"}
    assert {row["link_kind"] for row in empty["dim_movies"]} == {"imdb_search"}
    assert sum(row["times_rated"] for row in empty["fct_ratings"]) == len(RATINGS)
    for name in ("dim_people", "fct_credits", "fct_tags", "fct_episodes", "movie_imdb", "movie_tags", "imdb_changes"):
        assert empty[name] == [], name
    assert empty["int_imdb_only_films"] == []
    assert {row["kind"] for row in empty["movie_titles"]} == {"edition"}
    links = _by(empty["dim_movies"], "movie_id")
    assert links[4]["link_url"] == "https://www.imdb.com/find/?q=Am%C3%A9lie%27s%20Clock%20%26%20Dagger%201995&s=tt"


def test_a_new_column_in_every_file_leaves_each_staging_view_as_it_is(
    warehouse: Warehouse, empty: dict[str, Any]
) -> None:
    """Also one of the name that a view gives to another column, and views that were made before the column came."""

    def views() -> dict[str, list[dict[str, Any]]]:
        found = warehouse.read("SELECT view_name FROM duckdb_views() WHERE schema_name = 'staging' ORDER BY 1")
        return {row["view_name"]: warehouse.read(f"FROM staging.{row['view_name']} ORDER BY ALL") for row in found}

    before = views()
    assert len(before) == len(list((PROJECT / "models" / "staging").rglob("*.sql")))
    with duckdb.connect(warehouse.path) as con:
        for table in TABLES:
            own = {column.name.lower() for column in TABLES[table].columns}
            for name in {"tconst", "movie_id", "user_id", "tag_id", "title_year", "is_film", "mood of it"} - own:
                con.execute(f"ALTER TABLE raw.{table} ADD COLUMN \"{name}\" VARCHAR DEFAULT 'new'")
    assert views() == before
    warehouse.dbt("build", "--select", "path:models/staging", "--exclude-resource-type", "unit_test")
    assert views() == before


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("ids", "sound"),
    [
        (["tt1", "tt2", "tt3"], True),
        (["tt3", "tt1", "tt2"], True),
        (["tt1", "tt2", "tt2"], False),
        (["tt2", "tt1", "tt2"], False),
        (["tt1", None, "tt2"], False),
        ([None], False),
        ([], True),
    ],
)
def test_a_key_that_stands_twice_or_is_missing_breaks_the_grain_in_whatever_order_the_rows_are(
    warehouse: Warehouse, empty: dict[str, Any], ids: list[str | None], sound: bool
) -> None:
    warehouse.reset()
    if ids:
        rows = [(tconst, 5.0, 10) for tconst in ids]
        warehouse.insert("imdb_title_ratings", 'tconst, "averageRating", "numVotes"', rows)
    arguments = ["build", "--select", "stg_imdb__ratings", "--exclude-resource-type", "unit_test"]
    with nullcontext() if sound else pytest.raises(AssertionError, match="has_one_row_a_tconst"):
        warehouse.dbt(*arguments)


def test_titles_alone_find_what_the_links_of_a_real_edition_say(warehouse: Warehouse, empty: dict[str, Any]) -> None:
    """ml-latest-small has links, so its titles can be matched without them and judged: 98.9 % were right."""
    edition, dumps = REAL_DATA / "ml-latest-small", REAL_DATA / "imdb" / "full"
    if not edition.is_dir() or not dumps.is_dir():
        pytest.skip(f"no real files under {REAL_DATA}; MARQUEE_TEST_DATA names their folder")
    warehouse.reset()
    with duckdb.connect(warehouse.path) as con:
        con.execute(
            'INSERT INTO raw.ml_movies (edition, "movieId", title, genres) '
            f"SELECT 'ml-latest-small', * FROM read_csv('{edition}/movies.csv')"
        )
        for dump in ("basics", "ratings", "akas"):
            con.execute(
                f"INSERT INTO raw.imdb_title_{dump} FROM read_csv('{dumps}/title.{dump}.tsv.gz', delim='\t', "
                r"header=true, all_varchar=true, nullstr='\N', quote='', escape='')"
            )
    warehouse.dbt("run", "--select", "+int_movies_matched")
    (counts,) = warehouse.read(
        f"""
        WITH truth AS (SELECT "movieId"::INTEGER AS movie_id, 'tt' || "imdbId" AS tconst
                       FROM read_csv('{edition}/links.csv', all_varchar=true))
        SELECT count(*) AS films,
               count(*) FILTER (matched.tconst IS NOT NULL) AS matched,
               count(*) FILTER (matched.tconst = truth.tconst) AS correct,
               count(*) FILTER (truth.tconst IN (SELECT tconst FROM raw.imdb_title_basics)) AS findable
        FROM intermediate.int_movies_matched AS matched JOIN truth USING (movie_id)
        """
    )
    assert counts["films"] == 9_742
    assert counts["findable"] > 1900
    assert counts["correct"] / counts["matched"] > 0.985
    assert counts["correct"] / counts["findable"] > 0.95
    # The mart that judges holds the links back by itself, and finds what is found where there are none.
    alone = warehouse.read("SELECT movie_id, tconst, match_method FROM intermediate.int_movies_matched ORDER BY ALL")
    with duckdb.connect(warehouse.path) as con:
        con.execute(
            'INSERT INTO raw.ml_links (edition, "movieId", "imdbId") '
            f"SELECT 'ml-latest-small', \"movieId\", \"imdbId\" FROM read_csv('{edition}/links.csv', all_varchar=true)"
        )
    warehouse.dbt("run", "--select", "+match_judgement")
    found = "movie_id, found_tconst AS tconst, match_method"
    assert warehouse.read(f"SELECT {found} FROM marts.match_judgement ORDER BY ALL") == alone
    verdicts = {row["verdict"]: row["films"] for row in warehouse.read(plots.PLOTS["match_judgement"]["verdicts"][0])}
    assert sum(verdicts.values()) == 9_742
    assert verdicts["right"] == counts["correct"]
    assert verdicts["wrong"] == counts["matched"] - counts["correct"]
    with duckdb.connect(warehouse.path, read_only=True) as con:
        (told,) = con.sql(plots.TABLES["match_judgement"]["precision_and_recall"]).pl().to_dicts()
        misses = con.sql(plots.TABLES["match_judgement"]["misses"]).pl()
    assert told["precision"] == round(counts["correct"] / counts["matched"], 4)
    assert told["recall"] == round(counts["correct"] / counts["findable"], 4)
    assert misses.height == verdicts["wrong"] + verdicts["missed"] > 0
