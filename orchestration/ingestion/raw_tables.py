"""The raw tables as data: columns, types and descriptions, and the statements that make them empty.

Metadata in the graph, the empty table of a dump that was not asked for, and the loads themselves all come from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb


@dataclass(frozen=True)
class RawColumn:
    """One column of a raw table: its name in the files, its DuckDB type and what it means."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class RawTable:
    """One table of the schema ``raw``. ``name`` comes without the schema; ``grain`` says what one row is."""

    name: str
    grain: str
    columns: tuple[RawColumn, ...]

    @property
    def columns_sql(self) -> str:
        """Column definitions for ``CREATE TABLE``."""
        return ", ".join(f'"{column.name}" {column.type}' for column in self.columns)


def _table(name: str, grain: str, *columns: tuple[str, str, str]) -> RawTable:
    return RawTable(name, grain, tuple(RawColumn(*column) for column in columns))


_EDITION = ("edition", "VARCHAR", "The MovieLens release that the row is from.")
_USER = ("userId", "INTEGER", "The edition's user.")
_MOVIE = ("movieId", "INTEGER", "The edition's movie.")

MOVIELENS_TABLES: tuple[RawTable, ...] = (
    _table(
        "ml_ratings",
        "One row a user and movie.",
        _EDITION,
        _USER,
        _MOVIE,
        ("rating", "DECIMAL(2,1)", "Stars: 0.5 to 5 in halves; 1 to 5 in wholes in ml-100k and ml-1m."),
        ("timestamp", "BIGINT", "When the rating was given, seconds since 1970 UTC."),
    ),
    _table(
        "ml_movies",
        "One row a movie of the edition.",
        _EDITION,
        _MOVIE,
        ("title", "VARCHAR", "Title with the year in brackets and the article at the end, as in the file."),
        ("genres", "VARCHAR", "Genres separated by |, or (no genres listed)."),
        ("releaseDate", "VARCHAR", "Release date, like 01-Jan-1995; only ml-100k has it."),
        ("videoReleaseDate", "VARCHAR", "Video release date; only ml-100k has it, and mostly empty."),
        ("url", "VARCHAR", "IMDb search address of 1998; only ml-100k has it."),
    ),
    _table(
        "ml_links",
        "One row a movie; empty for an edition without links.",
        _EDITION,
        _MOVIE,
        ("imdbId", "VARCHAR", "Digits of the IMDb tconst, as in the file."),
        ("tmdbId", "BIGINT", "The id at themoviedb.org; NULL where the file has none."),
    ),
    _table(
        "ml_tags",
        "One row a tag that a user gave a movie; empty for an edition without tags.",
        _EDITION,
        _USER,
        _MOVIE,
        ("tag", "VARCHAR", "The tag as typed."),
        ("timestamp", "BIGINT", "When the tag was given, seconds since 1970 UTC."),
    ),
    _table(
        "ml_users",
        "One row a user; only ml-100k and ml-1m have users with demographics, else empty.",
        _EDITION,
        _USER,
        ("gender", "VARCHAR", "M or F."),
        ("age", "INTEGER", "Age in years; in ml-1m the lower bound of its band (1, 18, 25, 35, 45, 50, 56)."),
        ("occupation", "VARCHAR", "Occupation by name."),
        ("zipCode", "VARCHAR", "Postal code as given."),
    ),
    _table(
        "ml_genome_scores",
        "One row a movie and tag of the tag genome; empty for an edition without one.",
        _EDITION,
        _MOVIE,
        ("tagId", "INTEGER", "The genome's tag."),
        ("relevance", "FLOAT", "How much the tag says of the movie, 0 to 1."),
    ),
    _table(
        "ml_genome_tags",
        "One row a tag of the tag genome; empty for an edition without one.",
        _EDITION,
        ("tagId", "INTEGER", "The genome's tag; numbered anew in every edition."),
        ("tag", "VARCHAR", "The tag in words."),
    ),
)

_TCONST = ("tconst", "VARCHAR", "IMDb's id of the title.")

IMDB_TABLES: tuple[RawTable, ...] = (
    _table(
        "imdb_title_basics",
        "One row a title.",
        _TCONST,
        ("titleType", "VARCHAR", "movie, short, tvSeries, tvEpisode, video and others; NULL where unknown."),
        ("primaryTitle", "VARCHAR", "The title it is best known by."),
        ("originalTitle", "VARCHAR", "The title in the original language."),
        ("isAdult", "BOOLEAN", "Whether it is an adult title."),
        ("startYear", "INTEGER", "Year of release; of a series, its first year."),
        ("endYear", "INTEGER", "Last year of a series."),
        ("runtimeMinutes", "INTEGER", "Length in minutes."),
        ("genres", "VARCHAR", "Up to three genres separated by commas."),
    ),
    _table(
        "imdb_title_ratings",
        "One row a title with votes.",
        _TCONST,
        ("averageRating", "DECIMAL(3,1)", "Weighted mean of the votes, 1 to 10."),
        ("numVotes", "INTEGER", "Number of votes."),
    ),
    _table(
        "imdb_title_crew",
        "One row a title.",
        _TCONST,
        ("directors", "VARCHAR", "nconsts of the directors separated by commas."),
        ("writers", "VARCHAR", "nconsts of the writers separated by commas."),
    ),
    _table(
        "imdb_title_principals",
        "One row a title and principal person.",
        _TCONST,
        ("ordering", "INTEGER", "Number of the row within the title."),
        ("nconst", "VARCHAR", "IMDb's id of the person."),
        ("category", "VARCHAR", "What the person did: actor, director, composer and others."),
        ("job", "VARCHAR", "The job more precisely, where given."),
        ("characters", "VARCHAR", "Characters played, a JSON array."),
    ),
    _table(
        "imdb_title_episode",
        "One row an episode.",
        _TCONST,
        ("parentTconst", "VARCHAR", "The series."),
        ("seasonNumber", "INTEGER", "Season."),
        ("episodeNumber", "INTEGER", "Episode within the season."),
    ),
    _table(
        "imdb_title_akas",
        "One row a title and one of its names.",
        ("titleId", "VARCHAR", "IMDb's id of the title."),
        ("ordering", "INTEGER", "Number of the row within the title."),
        ("title", "VARCHAR", "The name."),
        ("region", "VARCHAR", "Region where it is used."),
        ("language", "VARCHAR", "Language of the name."),
        ("types", "VARCHAR", "alternative, dvd, festival, tv, video, working, original, imdbDisplay."),
        ("attributes", "VARCHAR", "Further words on this name."),
        ("isOriginalTitle", "BOOLEAN", "Whether it is the original title."),
    ),
    _table(
        "imdb_name_basics",
        "One row a person.",
        ("nconst", "VARCHAR", "IMDb's id of the person."),
        ("primaryName", "VARCHAR", "The name the person is best known by."),
        ("birthYear", "INTEGER", "Year of birth."),
        ("deathYear", "INTEGER", "Year of death."),
        ("primaryProfession", "VARCHAR", "Up to three professions separated by commas."),
        ("knownForTitles", "VARCHAR", "tconsts that the person is known for, separated by commas."),
    ),
)

_SHOW = (
    ("platform", "VARCHAR", "The platform: netflix, amazon, disney or hulu."),
    ("show_id", "VARCHAR", "The platform's own id of the title."),
    ("type", "VARCHAR", "Movie or TV Show."),
    ("title", "VARCHAR", "The title as in the file."),
    ("director", "VARCHAR", "Directors separated by commas."),
    ("cast", "VARCHAR", "Cast separated by commas."),
    ("country", "VARCHAR", "Countries of production separated by commas."),
    ("date_added", "VARCHAR", "When the platform added it, like September 25, 2021."),
    ("release_year", "INTEGER", "Year of release."),
    ("rating", "VARCHAR", "Age rating; in some rows a duration that slipped here."),
    ("duration", "VARCHAR", "Length, like 90 min or 2 Seasons."),
    ("listed_in", "VARCHAR", "The platform's categories separated by commas."),
    ("description", "VARCHAR", "What it is about."),
)

STREAMING_RATINGS = _table(
    "streaming_ratings",
    "One row a rating that a platform's user gave a title, repeated ones too; empty without files of ratings.",
    ("userId", "INTEGER", "The user, the same in all files."),
    ("rating", "DECIMAL(2,1)", "Stars: 0.5 to 5 in halves."),
    ("timestamp", "BIGINT", "When the rating was given, seconds since 1970 UTC."),
    ("movieId", "VARCHAR", "The title: the platform's first letter and its show_id."),
    ("file", "VARCHAR", "Base name of the file that holds the row."),
)

#: The catalogues of four platforms, and the ratings of their titles.
STREAMING_TABLES: tuple[RawTable, ...] = (
    *(
        _table(f"streaming_{name}_titles", f"One row a title of {spoken}; empty where its file is missing.", *_SHOW)
        for name, spoken in (
            ("netflix", "Netflix"),
            ("amazon_prime", "Amazon Prime"),
            ("disney_plus", "Disney Plus"),
            ("hulu", "Hulu"),
        )
    ),
    STREAMING_RATINGS,
)

QUARANTINE = _table(
    "quarantine",
    "One row a row of a file that could not be loaded.",
    ("source", "VARCHAR", "movielens, imdb or streaming."),
    ("table_name", "VARCHAR", "The raw table that lacks the row."),
    ("file", "VARCHAR", "Base name of the file."),
    ("line", "BIGINT", "Line in the uncompressed file, from 1; of a row over several lines, the first."),
    ("reason", "VARCHAR", "Which rule it breaks."),
    ("content", "VARCHAR", "The raw line; bytes that are no text are written \\xNN."),
)

LOADS = _table(
    "loads",
    "One row a raw table, and file of it: what its last load read.",
    ("table_name", "VARCHAR", "The raw table."),
    ("file", "VARCHAR", "Base name of the file; NULL where there is none."),
    ("file_rows", "BIGINT", "Data rows of the file."),
    ("loaded_rows", "BIGINT", "Rows of the file in the table."),
    ("quarantined_rows", "BIGINT", "Rows in quarantine; with the loaded ones they are the file's."),
    ("sha256", "VARCHAR", "Digest of the file as it lies on disk."),
    ("snapshot_at", "TIMESTAMP", "The file's own time, UTC: of the gzip header, else when it was last changed."),
)

IMDB_CHANGES = _table(
    "imdb_changes",
    "One row a look at IMDb's dumps, a title and a change; rows are only added.",
    ("look", "INTEGER", "Number of the look that found the change, from 1."),
    ("dump", "VARCHAR", "The dump that shows it: title.basics or title.ratings."),
    ("snapshot_at", "TIMESTAMP", "The dump's own time, UTC."),
    ("former_snapshot_at", "TIMESTAMP", "That of the dump it is compared with; of a re-rating, of the former rating."),
    ("tconst", "VARCHAR", "IMDb's id of the title."),
    ("change", "VARCHAR", "added, removed, retitled or redated; rated, unrated or rerated."),
    ("title", "VARCHAR", "Primary title after a change by title.basics."),
    ("former_title", "VARCHAR", "Primary title before it."),
    ("year", "INTEGER", "Year after a change by title.basics."),
    ("former_year", "INTEGER", "Year before it."),
    ("rating", "DECIMAL(3,1)", "Mean vote after a change by title.ratings."),
    ("former_rating", "DECIMAL(3,1)", "Mean vote before it; of a re-rating, the one noted last."),
    ("votes", "INTEGER", "Votes after a change by title.ratings."),
    ("former_votes", "INTEGER", "Votes at the former rating."),
)

IMDB_STATE: tuple[RawTable, ...] = (
    _table(
        "imdb_looks",
        "One row a dump that was looked at: which file the snapshot is of.",
        ("dump", "VARCHAR", "title.basics or title.ratings."),
        ("sha256", "VARCHAR", "Digest of the file."),
        ("snapshot_at", "TIMESTAMP", "The file's own time, UTC."),
    ),
    _table(
        "imdb_snapshot_titles",
        "One row a title of title.basics at the last look.",
        _TCONST,
        ("title", "VARCHAR", "Primary title."),
        ("year", "INTEGER", "Year of release."),
    ),
    _table(
        "imdb_snapshot_ratings",
        "One row a title of title.ratings at the last look.",
        _TCONST,
        ("rating", "DECIMAL(3,1)", "Mean vote."),
        ("votes", "INTEGER", "Number of votes."),
        ("noted_rating", "DECIMAL(3,1)", "The rating that the next one is compared with: small moves add up."),
        ("noted_votes", "INTEGER", "The votes it had then."),
        ("noted_at", "TIMESTAMP", "The time of the dump it is from."),
    ),
    _table(
        "imdb_drift",
        "One row a measure and step: how far ratings and votes moved between the last two dumps.",
        ("measure", "VARCHAR", "rating or votes."),
        (
            "step",
            "INTEGER",
            "Of rating: its move in tenths, -10 to 10. Of votes: 0 fewer, 1 the same, 2 up to 1 % more, ...",
        ),
        ("titles", "BIGINT", "Titles that moved so far."),
    ),
)

_PERSON = (
    ("source", "VARCHAR", "`app`, or the edition that knows the person."),
    ("source_id", "BIGINT", "The person's number there."),
)

#: What comes from the app's store. Nobody's name is read, and nobody who asked to be forgotten is in it.
APP_TABLES: tuple[RawTable, ...] = (
    _table(
        "app_state",
        "One row: how far the app's store had come when it was read; none without a store.",
        ("last_event_id", "BIGINT", "Number of the last event."),
    ),
    _table(
        "app_users",
        "One row a person whom the app knows.",
        *_PERSON,
        ("created_at", "TIMESTAMP", "Since when the app knows the person, UTC."),
    ),
    _table(
        "app_ratings",
        "One row a person and film that the person rated in the app: the rating that stands.",
        *_PERSON,
        ("movie_key", "BIGINT", "Our key of the film."),
        ("edition", "VARCHAR", "The edition that was served when the film was rated."),
        ("movie_id", "BIGINT", "The film's id there."),
        ("rating", "DECIMAL(2,1)", "Stars, 0.5 to 5 in halves."),
        ("rated_at", "TIMESTAMP", "When, UTC."),
    ),
    _table(
        "app_events",
        "One row an event of the app's log, under a random key that leads to nobody once the person has left.",
        ("event_id", "BIGINT", "Number of the event."),
        ("subject", "VARCHAR", "Random key of the person."),
        ("kind", "VARCHAR", "What happened: rated, shown, viewed, clicked, dismissed, watchlisted, ..."),
        ("movie_key", "BIGINT", "Our key of the film; NULL where it is about none."),
        ("rating", "DECIMAL(2,1)", "Stars, of a rating."),
        ("happened_at", "TIMESTAMP", "When, UTC."),
    ),
    _table(
        "app_answers",
        "One row an answer that was served, or that a version in the shadow would have given; without who has left.",
        ("answer_id", "BIGINT", "Number of the answer."),
        ("answered_at", "TIMESTAMP", "When, UTC."),
        (
            "request_id",
            "VARCHAR",
            "Id of the request; the answers of a batch share it, and a shadow has that of the served.",
        ),
        ("route", "VARCHAR", "recommend, recommend_batch, recommend_for_movie, cold_start or similar."),
        ("subject", "VARCHAR", "Random key of the person, as in app_events; NULL for nobody that is known."),
        ("model_version", "VARCHAR", "Version of the bundle that answered."),
        ("data_snapshot", "VARCHAR", "The data that the bundle was trained on, as JSON."),
        ("experiment", "VARCHAR", "The experiment that dealt the person to a version; NULL outside of one."),
        ("arm", "VARCHAR", "champion, challenger or shadow; NULL outside of an experiment."),
        ("fallback", "VARCHAR", "Why something stood in for the model; NULL where it answered."),
        ("latency_ms", "DOUBLE", "From the arrival of the request to its answer, of a shadow the time to make it."),
        ("overlap", "DOUBLE", "Of a shadow: the share of films in common with what was served."),
        ("movie_keys", "BIGINT[]", "Our keys of the films, best first."),
        ("scores", "DOUBLE[]", "Their scores."),
    ),
    _table(
        "ml_suppressed",
        "One row a user of the edition who asked to be forgotten; the other raw tables are without him.",
        ("edition", "VARCHAR", "The MovieLens release."),
        ("user_id", "BIGINT", "The edition's user."),
    ),
)

#: Every raw table that is filled from a file, by name.
TABLES: dict[str, RawTable] = {table.name: table for table in (*MOVIELENS_TABLES, *IMDB_TABLES, *STREAMING_TABLES)}


def create_ledgers(con: duckdb.DuckDBPyConnection) -> None:
    """Make the schema and the tables that no single file fills where they are missing; what they hold stays."""
    con.execute("CREATE SCHEMA IF NOT EXISTS raw")
    for table in (QUARANTINE, LOADS, IMDB_CHANGES, *IMDB_STATE):
        con.execute(f"CREATE TABLE IF NOT EXISTS raw.{table.name} ({table.columns_sql})")
