"""The embedded sample: true formats, known faults, and users who have a taste."""

from __future__ import annotations

import dataclasses
import gzip
import io
import re
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from orchestration.errors import Reason
from orchestration.ingestion.imdb import ingest_imdb
from orchestration.ingestion.movielens import ingest_movielens
from orchestration.ingestion.source_resolver import EditionFiles
from orchestration.ingestion.streaming import ingest_streaming
from orchestration.synthetic import imdb
from orchestration.synthetic import rating_simulator as taste
from orchestration.synthetic.sample import SNAPSHOT, SampleManifest, SampleSpec, read_manifest, write_sample

SPEC = SampleSpec(users=150, movies=300, ratings=9_000, seed=7)
CLEAN = dataclasses.replace(SPEC, broken=False)
CSVS = {
    "movies.csv": "movieId,title,genres",
    "links.csv": "movieId,imdbId,tmdbId",
    "ratings.csv": "userId,movieId,rating,timestamp",
    "tags.csv": "userId,movieId,tag,timestamp",
    "genome-scores.csv": "movieId,tagId,relevance",
    "genome-tags.csv": "tagId,tag",
}
DUMPS = {
    "title.basics.tsv.gz": (
        "tconst titleType primaryTitle originalTitle isAdult startYear endYear runtimeMinutes genres"
    ),
    "title.ratings.tsv.gz": "tconst averageRating numVotes",
    "title.crew.tsv.gz": "tconst directors writers",
    "title.principals.tsv.gz": "tconst ordering nconst category job characters",
    "title.episode.tsv.gz": "tconst parentTconst seasonNumber episodeNumber",
    "title.akas.tsv.gz": "titleId ordering title region language types attributes isOriginalTitle",
    "name.basics.tsv.gz": "nconst primaryName birthYear deathYear primaryProfession knownForTitles",
}
CATALOGUES = ("netflix_titles.csv", "amazon_prime_titles.csv", "disney_plus_titles.csv", "hulu_titles.csv")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the manifest, by base name, uncompressed where it is gzip."""
    found = {path.name: path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.name != "manifest.json"}
    return {name: gzip.decompress(data) if name.endswith(".gz") else data for name, data in found.items()}


def rows_of(data: bytes, separator: str = "\t") -> pl.DataFrame:
    """Read a file of good rows as text columns; IMDb's null is null, and its quotes are only characters."""
    imdb_file = separator == "\t"
    return pl.read_csv(
        io.BytesIO(data),
        separator=separator,
        infer_schema=False,
        quote_char=None if imdb_file else '"',
        null_values=r"\N" if imdb_file else None,
    )


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleManifest]:
    folder = tmp_path_factory.mktemp("broken")
    return folder, write_sample(folder, SPEC)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleManifest]:
    folder = tmp_path_factory.mktemp("clean")
    return folder, write_sample(folder, CLEAN)


@pytest.fixture(scope="module")
def tables(clean: tuple[Path, SampleManifest]) -> dict[str, pl.DataFrame]:
    return {
        name.partition(".csv")[0].partition(".tsv")[0]: rows_of(data, "," if name in CSVS else "\t")
        for name, data in contents(clean[0]).items()
        if name in CSVS or name in DUMPS
    }


@pytest.fixture(scope="module")
def ratings(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return tables["ratings"].select(
        pl.col("userId", "movieId").cast(pl.Int64),
        pl.col("rating").cast(pl.Float64),
        pl.col("timestamp").cast(pl.Int64),
    )


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, broken: tuple[Path, SampleManifest]) -> None:
    again = write_sample(tmp_path, SPEC)
    for path in sorted(broken[0].rglob("*.*")):
        assert (tmp_path / path.relative_to(broken[0])).read_bytes() == path.read_bytes(), path.name
    assert again == broken[1]


def test_another_seed_gives_other_bytes_in_every_file(tmp_path: Path, broken: tuple[Path, SampleManifest]) -> None:
    write_sample(tmp_path, dataclasses.replace(SPEC, seed=8))
    theirs = contents(broken[0])
    assert [name for name, data in contents(tmp_path).items() if data == theirs[name]] == []


def test_the_csv_files_are_written_as_grouplens_writes_them(broken: tuple[Path, SampleManifest]) -> None:
    files = contents(broken[0])
    assert set(files) == {*CSVS, *DUMPS, *CATALOGUES, "1.csv", "2.csv", "README.txt"}
    for name, header in CSVS.items():
        lines = files[name].split(b"\r\n")
        assert lines[0].decode() == header
        assert lines[-1] == b""
        assert not any(b"\n" in line or b"\r" in line for line in lines), name
    assert re.search(rb'\r\n\d+,"[^"\r]+, The \(\d{4}\)",[A-Za-z|-]+\r\n', files["movies.csv"])
    assert re.search(rb"\r\n1,\d+,[0-5]\.[05],\d{10}\r\n", files["ratings.csv"])


def test_the_dumps_are_written_as_imdb_writes_them(clean: tuple[Path, SampleManifest]) -> None:
    for name, header in DUMPS.items():
        raw = (clean[0] / "imdb" / name).read_bytes()
        # Magic, deflate, no name in the header, then the time.
        assert raw[:4] == b"\x1f\x8b\x08\x00", name
        assert int.from_bytes(raw[4:8], "little") == SNAPSHOT, name
        lines = gzip.decompress(raw).decode("utf-8").split("\n")
        assert lines[0].split("\t") == header.split()
        assert lines[-1] == ""
        cells = [line.split("\t") for line in lines[1:-1]]
        assert {len(row) for row in cells} == {len(header.split())}, name
        assert not any(cell == "" for row in cells for cell in row), name
        if name != "title.ratings.tsv.gz":
            assert any(cell == r"\N" for row in cells for cell in row), name


def test_titles_have_commas_quotes_accents_and_articles_at_the_end(tmp_path: Path) -> None:
    write_sample(tmp_path, SampleSpec(users=100, movies=1_500, ratings=3_000, broken=False))
    files = contents(tmp_path)
    titles = rows_of(files["movies.csv"], ",")["title"]
    for pattern in (
        r", The \(\d{4}\)$",
        r"a\.k\.a\. ",
        r", L(e|a|es|') ?\)? \(\d{4}\)$|, L'\) ",
        r'"',
        r"[à-ÿ]",
        r", A \(",
    ):
        assert titles.str.contains(pattern).any(), pattern
    assert not titles.str.contains(r"^(The|A|An) ").any()
    quoted = rows_of(files["title.basics.tsv.gz"]).filter(pl.col("primaryTitle").str.count_matches('"') == 1)
    assert quoted.height > 0


def test_every_broken_row_is_where_the_manifest_says(broken: tuple[Path, SampleManifest]) -> None:
    folder, manifest = broken
    files = contents(folder)
    assert {row.reason for row in manifest.broken} == set(Reason)
    assert {row.file for row in manifest.broken} == {*CSVS, *DUMPS}
    for row in manifest.broken:
        lines = files[row.file].decode(errors="replace").split("\r\n" if row.file in CSVS else "\n")
        assert lines[row.line - 1] == row.text, row
    for file in manifest.files:
        # A catalogue has rows over several lines.
        assert file.rows == files[file.file].count(b"\r\n" if file.file in CATALOGUES else b"\n") - 1
        assert file.broken_rows == sum(row.file == file.file for row in manifest.broken)
    assert read_manifest(folder) == manifest


def test_without_its_broken_rows_a_sample_is_the_sample_that_has_none(
    broken: tuple[Path, SampleManifest], clean: tuple[Path, SampleManifest]
) -> None:
    files = contents(broken[0])
    assert clean[1].broken == ()
    for name, data in contents(clean[0]).items():
        if name in CSVS or name in DUMPS:
            out = {row.line for row in broken[1].broken if row.file == name}
            kept = [line for n, line in enumerate(files[name].split(b"\n"), 1) if n not in out]
            assert b"\n".join(kept) == data, name


def test_ingest_sets_aside_exactly_the_broken_rows_for_the_reasons_of_the_manifest(
    tmp_path: Path, broken: tuple[Path, SampleManifest]
) -> None:
    folder, manifest = broken
    con = duckdb.connect(str(tmp_path / "warehouse.duckdb"))
    con.execute("CREATE SCHEMA raw")
    ingest_movielens(con, EditionFiles("sample", folder / "sample", "generated"))
    for name in DUMPS:
        ingest_imdb(con, name.removesuffix(".tsv.gz"), folder / "imdb" / name)
    found = con.execute("SELECT file, line, reason FROM raw.quarantine ORDER BY ALL").fetchall()
    con.close()
    assert [(f, n, r.partition(" in ")[0]) for f, n, r in found] == sorted(
        (row.file, row.line, row.reason.value) for row in manifest.broken
    )


def test_the_catalogues_have_the_habits_of_the_real_ones_and_lose_no_row(
    tmp_path: Path, broken: tuple[Path, SampleManifest]
) -> None:
    folder, manifest = broken
    rows = {file.file: file.rows for file in manifest.files}
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
        reports = ingest_streaming(con, folder / "streaming")
        assert {report.file: report.loaded_rows for report in reports} == {
            name: rows[name] for name in (*CATALOGUES, "1.csv", "2.csv")
        }
        titles = " UNION ALL ".join(f"FROM raw.streaming_{name.removesuffix('.csv')}" for name in CATALOGUES)
        for habit in (
            "rating LIKE '% min' AND duration IS NULL",
            "rating IS NULL",
            "date_added LIKE ' %'",
            "country LIKE ', %'",
            "contains(description, chr(10))",
            'contains("cast", chr(65533))',
            "type = 'TV Show' AND duration LIKE '% Season%'",
        ):
            [(found,)] = con.execute(f"SELECT count(*) FROM ({titles}) WHERE {habit}").fetchall()
            assert found > 0, habit
        [(films,)] = con.execute(f"SELECT count(DISTINCT title) FROM ({titles}) WHERE type = 'Movie'").fetchall()
        [(listings,)] = con.execute(f"SELECT count(*) FROM ({titles}) WHERE type = 'Movie'").fetchall()
    # Some films are on several platforms.
    assert films < listings


def test_counts_are_those_asked_for(tables: dict[str, pl.DataFrame], clean: tuple[Path, SampleManifest]) -> None:
    assert tables["ratings"].height == CLEAN.ratings
    assert tables["ratings"]["userId"].n_unique() == CLEAN.users
    assert tables["movies"].height == CLEAN.movies
    # Examples ask for user 1 and movie 1.
    assert tables["ratings"]["userId"][0] == tables["movies"]["movieId"][0] == "1"
    assert 0.9 * CLEAN.tags <= tables["tags"].height <= CLEAN.tags
    missing = [match for match in clean[1].matching if match.tconst is None]
    assert tables["title.basics"].height == CLEAN.imdb_titles - len(missing)
    assert 0.97 * CLEAN.movies < tables["links"].height < CLEAN.movies


def test_keys_are_unique_and_references_lead_somewhere(tables: dict[str, pl.DataFrame]) -> None:
    keys = {
        "movies": ["movieId"],
        "links": ["movieId"],
        "ratings": ["userId", "movieId"],
        "tags": ["userId", "movieId", "tag"],
        "genome-scores": ["movieId", "tagId"],
        "genome-tags": ["tagId"],
        "title.basics": ["tconst"],
        "title.ratings": ["tconst"],
        "title.crew": ["tconst"],
        "title.principals": ["tconst", "ordering"],
        "title.episode": ["tconst"],
        "title.akas": ["titleId", "ordering"],
        "name.basics": ["nconst"],
    }
    for name, key in keys.items():
        assert tables[name].select(key).is_duplicated().sum() == 0, name
        assert tables[name].select(key).null_count().sum_horizontal().item() == 0, name
    movies, titles, names = (
        tables["movies"]["movieId"],
        tables["title.basics"]["tconst"],
        tables["name.basics"]["nconst"],
    )
    for name in ("links", "ratings", "tags", "genome-scores"):
        assert tables[name]["movieId"].is_in(movies.implode()).all(), name
    for name in ("title.ratings", "title.crew", "title.principals", "title.episode"):
        assert tables[name]["tconst"].is_in(titles.implode()).all(), name
    assert tables["title.akas"]["titleId"].is_in(titles.implode()).all()
    assert tables["title.principals"]["nconst"].is_in(names.implode()).all()
    for column in ("directors", "writers"):
        ids = tables["title.crew"][column].drop_nulls().str.split(",").explode()
        assert ids.is_in(names.implode()).all(), column
    known = tables["name.basics"]["knownForTitles"].drop_nulls().str.split(",")
    assert known.explode().is_in(titles.implode()).all()
    assert known.list.len().max() == 4
    series = tables["title.basics"].filter(pl.col("titleType").is_in(["tvSeries", "tvMiniSeries"]))["tconst"]
    assert tables["title.episode"]["parentTconst"].is_in(series.implode()).all()
    assert tables["tags"].join(tables["ratings"], on=["userId", "movieId"], how="anti").height == 0


def test_the_genome_says_of_each_film_with_ratings_what_it_is_like(
    tables: dict[str, pl.DataFrame], ratings: pl.DataFrame
) -> None:
    scores = tables["genome-scores"].cast({"movieId": pl.Int64, "tagId": pl.Int64, "relevance": pl.Float64})
    rated = ratings.group_by("movieId").len().filter(pl.col("len") >= 20)
    assert set(scores["movieId"]) == set(rated["movieId"])
    assert scores.height == 40 * rated.height
    assert tables["genome-tags"]["tagId"].to_list() == [str(n) for n in range(1, 41)]
    assert scores["relevance"].is_between(0, 1).all()
    # Few tags fit a film well.
    assert 0.03 < (scores["relevance"] > 0.5).mean() < 0.3
    words = tables["genome-tags"].select(pl.col("tagId").cast(pl.Int64), "tag")
    genres = tables["movies"].select(pl.col("movieId").cast(pl.Int64), pl.col("genres").str.to_lowercase())
    named = (
        scores.join(words, on="tagId")
        .join(genres, on="movieId")
        .with_columns(fits=pl.col("genres").str.split("|").list.contains(pl.col("tag")))
        .filter(pl.col("fits").any().over("tag"))
    )
    assert named["tag"].n_unique() >= 5
    means = named.group_by("fits").agg(pl.col("relevance").mean()).sort("fits")["relevance"]
    assert means[1] > means[0] + 0.5


def test_ratings_follow_the_release_on_many_days_in_half_stars(
    ratings: pl.DataFrame, tables: dict[str, pl.DataFrame]
) -> None:
    years = tables["movies"].select(
        pl.col("movieId").cast(pl.Int64), year=pl.col("title").str.extract(r"\((\d{4})\)$").cast(pl.Int32)
    )
    dated = ratings.with_columns(at=pl.from_epoch("timestamp")).join(years, on="movieId").drop_nulls("year")
    assert (dated["at"].dt.year() >= dated["year"]).all()
    assert dated["at"].dt.year().n_unique() >= 8
    users = (
        ratings.with_columns(day=pl.col("timestamp") // 86_400)
        .group_by("userId")
        .agg(pl.len(), pl.col("day").n_unique())
    )
    assert users["len"].min() >= 20
    assert users["day"].min() >= 2
    assert users["day"].median() >= 3
    assert set(ratings["rating"].unique()) == {stars / 2 for stars in range(1, 11)}
    assert ratings["rating"].mean() == pytest.approx(3.5, abs=0.05)
    popularity = np.sort(ratings["movieId"].value_counts()["count"].to_numpy())[::-1]
    assert popularity[:30].sum() > 0.2 * ratings.height
    assert np.sort(users["len"].to_numpy())[-15:].sum() > 0.2 * ratings.height


def test_each_awkward_match_is_what_it_is_called(
    clean: tuple[Path, SampleManifest], tables: dict[str, pl.DataFrame]
) -> None:
    movies = {int(row["movieId"]): row["title"] for row in tables["movies"].iter_rows(named=True)}
    links = {int(row["movieId"]): row["imdbId"] for row in tables["links"].iter_rows(named=True)}
    basics = {row["tconst"]: row for row in tables["title.basics"].iter_rows(named=True)}
    votes = {row["tconst"]: int(row["numVotes"]) for row in tables["title.ratings"].iter_rows(named=True)}
    akas = set(tables["title.akas"].select("titleId", "title").iter_rows())
    kinds: dict[str, list[int]] = {}
    for match in clean[1].matching:
        kinds.setdefault(match.kind, []).append(match.movie_id)
        shown = movies[match.movie_id]
        year = shown[-5:-1] if shown.endswith(")") else ""
        filed = re.sub(r" \(.*", "", shown)
        spoken = re.sub(r"^(.*), (The|A|An)$", r"\2 \1", filed)
        linked = links.get(match.movie_id)
        if match.kind not in ("missing_link", "twice", "undated"):
            assert not linked, match
        if match.kind in ("missing", "missing_link"):
            assert match.tconst is None
            assert f"tt{linked}" not in basics
            assert spoken not in {row["primaryTitle"] for row in basics.values()}
            continue
        title = basics[match.tconst or ""]
        gap = int(year) - int(title["startYear"]) if year else None
        match match.kind:
            case "plain":
                assert (title["primaryTitle"], gap) == (spoken, 0)
            case "alias" | "alias_hidden":
                assert title["primaryTitle"] != spoken
                assert (match.tconst, spoken) in akas
                assert gap == 0
                assert ("a.k.a." in shown) == (match.kind == "alias")
            case "near_year":
                assert (title["primaryTitle"], gap) == (spoken, 1)
            case "namesake":
                same = [t for t, row in basics.items() if (row["primaryTitle"], row["startYear"]) == (spoken, year)]
                assert len(same) == 2
                assert max(same, key=lambda tconst: votes.get(tconst, 0)) == match.tconst
            case "twice":
                assert f"tt{linked}" == match.tconst
            case "undated":
                assert not re.search(r"\(\d{4}\)$", shown)
            case other:
                pytest.fail(f"unknown kind {other}")
    assert set(kinds) == {
        "plain", "alias", "alias_hidden", "near_year", "namesake", "missing", "missing_link", "twice", "undated",
    }  # fmt: skip
    assert len(kinds["twice"]) == 2 * len(kinds["plain"])
    assert tables["title.basics"]["titleType"].null_count() > 0


def test_some_films_are_remade_under_the_same_title(tables: dict[str, pl.DataFrame]) -> None:
    films = tables["movies"].select(
        name=pl.col("title").str.replace(r" \(\d{4}\)$", ""), year=pl.col("title").str.extract(r"\((\d{4})\)$")
    )
    groups = films.drop_nulls().group_by("name").agg(pl.len(), years=pl.col("year").n_unique())
    assert groups.filter(pl.col("years") > 1).height > 0
    assert groups.filter(pl.col("len") > pl.col("years")).height > 0


def test_a_whole_sample_of_the_same_parameters_is_left_as_it_is(tmp_path: Path) -> None:
    spec = SampleSpec(users=20, movies=40, ratings=300)
    first = write_sample(tmp_path, spec)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert write_sample(tmp_path, spec) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == stamps


def test_a_damaged_or_different_sample_is_replaced_whole(tmp_path: Path) -> None:
    spec = SampleSpec(users=20, movies=40, ratings=300)
    write_sample(tmp_path, spec)
    whole = contents(tmp_path)
    (tmp_path / "sample" / "tags.csv").unlink()
    (tmp_path / ".partial" / "sample").mkdir(parents=True)
    assert read_manifest(tmp_path) is None
    write_sample(tmp_path, spec)
    assert contents(tmp_path) == whole
    larger = write_sample(tmp_path, dataclasses.replace(spec, ratings=320))
    assert contents(tmp_path)["ratings.csv"].count(b"\r\n") == 1 + 320 + 11
    assert read_manifest(tmp_path) == larger
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "imdb",
        "manifest.json",
        "sample",
        "streaming",
    ]


def test_more_ratings_than_fit_are_refused_and_leave_what_is_there(tmp_path: Path) -> None:
    small = write_sample(tmp_path, SampleSpec(users=10, movies=20, ratings=100))
    with pytest.raises(ValueError, match="ratings do not fit 10 users and 20 movies"):
        write_sample(tmp_path, SampleSpec(users=10, movies=20, ratings=250))
    assert read_manifest(tmp_path) == small
    with pytest.raises(ValueError, match="at least 2 users, 20 movies"):
        SampleSpec(users=10, movies=5)


def test_a_sample_in_many_chunks_holds_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taste, "USERS_A_CHUNK", 13)
    monkeypatch.setattr(imdb, "TITLES_A_CHUNK", 50)
    write_sample(tmp_path, SampleSpec(users=60, movies=120, ratings=2_400, tags=300, broken=False))
    files = contents(tmp_path)
    ratings = rows_of(files["ratings.csv"], ",").cast({"userId": pl.Int64, "movieId": pl.Int64})
    assert ratings.height == 2_400
    assert ratings.select("userId", "movieId").equals(ratings.select("userId", "movieId").sort("userId", "movieId"))
    assert ratings["userId"].unique().sort().to_list() == list(range(1, 61))
    tags = rows_of(files["tags.csv"], ",").cast({"userId": pl.Int64, "movieId": pl.Int64})
    assert tags.height > 250
    assert tags.join(ratings, on=["userId", "movieId"], how="anti").height == 0
    basics = rows_of(files["title.basics.tsv.gz"])["tconst"]
    assert basics.equals(basics.unique().sort())
    assert rows_of(files["title.principals.tsv.gz"])["tconst"].n_unique() == len(basics)


def _hit_rate(scores: npt.NDArray[np.float32], held_out: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_]) -> float:
    """Return the share of users whose held-out movie is in the top ten with 99 unseen ones; a tie counts half."""
    users = np.arange(len(scores))
    keys = np.random.default_rng(0).random(scores.shape)
    keys[seen] = 2.0
    negatives = np.take_along_axis(scores, np.argsort(keys, axis=1)[:, :99], axis=1)
    own = scores[users, held_out][:, None]
    rank = (negatives > own).sum(axis=1) + 0.5 * (negatives == own).sum(axis=1)
    return float(np.mean(rank < 10))


def test_a_collaborative_model_beats_popularity_clearly(tmp_path: Path) -> None:
    write_sample(tmp_path, SampleSpec(users=300, movies=300, ratings=15_000, broken=False))
    rows = rows_of(contents(tmp_path)["ratings.csv"], ",").cast(pl.Float64).cast(pl.Int64)
    rows = rows.sort("userId", "timestamp", "movieId")
    user = rows["userId"].rank("dense").to_numpy().astype(np.int64) - 1
    movie = rows["movieId"].rank("dense").to_numpy().astype(np.int64) - 1
    last = np.append(user[1:] != user[:-1], True)
    train = np.zeros((user.max() + 1, movie.max() + 1), dtype=np.float32)
    train[user[~last], movie[~last]] = 1.0
    seen = train > 0
    seen[user[last], movie[last]] = True
    # EASE (Steck 2019): B = I - P / diag(P), with P the inverse of the regularized Gram matrix.
    inverse = np.linalg.inv(train.T @ train + 100.0 * np.eye(train.shape[1], dtype=np.float32))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    popularity = _hit_rate(np.broadcast_to(train.sum(axis=0), train.shape), movie[last], seen)
    ease = _hit_rate(train @ weights, movie[last], seen)
    assert 0.25 < popularity < 0.6
    assert ease > popularity + 0.12


def test_stars_follow_the_taste_for_genres(ratings: pl.DataFrame, tables: dict[str, pl.DataFrame]) -> None:
    genres = (
        tables["movies"]
        .select(pl.col("movieId").cast(pl.Int64), genre=pl.col("genres").str.split("|"))
        .explode("genre")
    )
    # Against the film's mean, and against what the user gives in this half of the ratings.
    above = pl.col("rating") - pl.col("rating").mean().over("movieId")
    rows = ratings.with_columns(above=above, half=pl.int_range(pl.len()) % 2).join(genres, on="movieId")
    rows = rows.with_columns(left=pl.col("above") - pl.col("above").mean().over("userId", "half"))
    halves = rows.group_by("userId", "genre").agg(
        pl.len(),
        first=pl.col("left").filter(pl.col("half") == 0).mean(),
        second=pl.col("left").filter(pl.col("half") == 1).mean(),
    )
    both = halves.filter(pl.col("len") >= 8).drop_nulls()
    # What a user thinks of a genre in one half of the ratings says something about the other half.
    assert both.select(pl.corr("first", "second")).item() > 0.1


def test_taste_drifts_from_the_first_ratings_to_the_last(
    ratings: pl.DataFrame, tables: dict[str, pl.DataFrame]
) -> None:
    years = tables["movies"].select(
        pl.col("movieId").cast(pl.Int64), year=pl.col("title").str.extract(r"\((\d{4})\)").cast(pl.Float64)
    )
    order = pl.col("timestamp").rank("ordinal").over("userId")
    third = (3 * (order - 1)) // pl.len().over("userId")
    means = (
        ratings.join(years, on="movieId")
        .drop_nulls("year")
        .with_columns(third=third)
        .group_by("userId", "third")
        .agg(pl.col("year").mean())
        .pivot("third", index="userId", values="year")
    )
    near = means.select(pl.corr("0", "1") + pl.corr("1", "2")).item() / 2
    far = means.select(pl.corr("0", "2")).item()
    # The eras that a user rates at the start and at the end have less in common than neighbouring thirds have.
    assert near - far > 0.1
