r"""The suites: what must hold of every raw table and every mart. A new rule is one line here.

A blocking rule guards what would make later numbers wrong without a trace: a key that is missing or twice (joins drop
or multiply rows), a value outside its scale, a table that came out empty, a column that has moved. A warning is for
what a person should look at while everything else stays right: an odd year costs one film its year. A dump holds
millions of rows that nobody here can mend, so of the dumps only what breaks joins blocks.

Anchors are ``^`` and ``\Z``: ``$`` would let a trailing line feed pass.
"""

from __future__ import annotations

from orchestration.quality.expectations import (
    Suite,
    between,
    matches,
    not_before,
    not_empty,
    not_null,
    one_of,
    unique,
)

HALF_STARS = [step / 2 for step in range(1, 11)]
TCONST = r"^tt[0-9]{7,}\Z"
NCONST = r"^nm[0-9]{7,}\Z"
NCONSTS = r"^nm[0-9]{7,}(?:,nm[0-9]{7,})*\Z"

#: Seconds since 1970: MovieLens opened in 1995, and what is later than 2100 was given in milliseconds.
YEAR_1995, YEAR_2100 = 788_918_400, 4_102_444_800

GENRES = (
    *("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
GENRE_COLUMNS = [genre.lower().replace("-", "_") for genre in GENRES]

TITLE_TYPES = (
    *("movie", "short", "tvEpisode", "tvMiniSeries", "tvMovie", "tvPilot", "tvSeries", "tvShort", "tvSpecial", "video"),
    *("videoGame", "radioEpisode", "radioSeries", "podcastEpisode", "podcastSeries", "musicVideo"),
)
CREDIT_CATEGORIES = (
    *("actor", "actress", "archive_footage", "archive_sound", "casting_director", "cinematographer", "composer"),
    *("director", "editor", "producer", "production_designer", "self", "writer"),
)


def _columns(spec: str) -> dict[str, str]:
    """Parse ``"a INTEGER; b DECIMAL(2,1)"`` into columns with their types, in order."""
    parts = (part.strip().partition(" ") for part in spec.split(";"))
    return {name: kind for name, _, kind in parts}


# A new column of a file is loaded after the known ones; the check `columns` warns of it, and nothing here blocks.
_MOVIELENS = (
    Suite(
        "raw.ml_ratings",
        _columns("edition VARCHAR; userId INTEGER; movieId INTEGER; rating DECIMAL(2,1); timestamp BIGINT"),
        (
            not_empty(),
            *not_null("edition", "userId", "movieId", "rating", "timestamp"),
            # A second row of the pair would count twice in every history.
            unique("userId", "movieId"),
            between("userId", 1),
            between("movieId", 1),
            one_of("rating", HALF_STARS),
            between("timestamp", 0, YEAR_2100),
            # Odd, but times before MovieLens still order a history.
            between("timestamp", YEAR_1995, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.ml_movies",
        _columns(
            "edition VARCHAR; movieId INTEGER; title VARCHAR; genres VARCHAR;"
            " releaseDate VARCHAR; videoReleaseDate VARCHAR; url VARCHAR"
        ),
        (
            not_empty(),
            *not_null("edition", "movieId", "title"),
            unique("movieId"),
            # A film without them is matched and described less well, nothing else.
            *not_null("genres", severity="warning"),
            matches("title", r"\([0-9]{4}[^)]*\)\s*\Z", severity="warning", mostly=0.95),
        ),
        others=True,
    ),
    Suite(
        "raw.ml_links",
        _columns("edition VARCHAR; movieId INTEGER; imdbId VARCHAR; tmdbId BIGINT"),
        (
            *not_null("edition", "movieId"),
            # Two links of a film would double it in the join.
            unique("movieId"),
            # Such a film is matched by its title instead; that is to remain the exception.
            *not_null("imdbId", severity="warning", mostly=0.95),
            matches("imdbId", r"^[0-9]{1,9}\Z", severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.ml_tags",
        _columns("edition VARCHAR; userId INTEGER; movieId INTEGER; tag VARCHAR; timestamp BIGINT"),
        (
            *not_null("edition", "userId", "movieId", "tag", "timestamp"),
            between("timestamp", 0, YEAR_2100),
            between("timestamp", YEAR_1995, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.ml_users",
        _columns("edition VARCHAR; userId INTEGER; gender VARCHAR; age INTEGER; occupation VARCHAR; zipCode VARCHAR"),
        (
            *not_null("edition", "userId"),
            # A user twice would double all of the user's ratings in a join.
            unique("userId"),
            # Demographics describe and train nothing.
            one_of("gender", ["F", "M"], severity="warning"),
            between("age", 1, 120, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.ml_genome_scores",
        _columns("edition VARCHAR; movieId INTEGER; tagId INTEGER; relevance FLOAT"),
        (
            *not_null("edition", "movieId", "tagId", "relevance"),
            unique("movieId", "tagId"),
            between("relevance", 0, 1),
        ),
        others=True,
    ),
    Suite(
        "raw.ml_genome_tags",
        _columns("edition VARCHAR; tagId INTEGER; tag VARCHAR"),
        (
            *not_null("edition", "tagId", "tag"),
            # A tag of two names would double its scores.
            unique("tagId"),
            # Two numbers of one name are two opinions on one tag: the higher one stands.
            unique("tag", severity="warning"),
        ),
        others=True,
    ),
)

# Dumps may be left out, so none of them has to have rows. A key of another shape joins with nothing: that title is
# missing, the others are right, so patterns warn.
_IMDB = (
    Suite(
        "raw.imdb_title_basics",
        _columns(
            "tconst VARCHAR; titleType VARCHAR; primaryTitle VARCHAR; originalTitle VARCHAR; isAdult BOOLEAN;"
            " startYear INTEGER; endYear INTEGER; runtimeMinutes INTEGER; genres VARCHAR"
        ),
        (
            *not_null("tconst"),
            unique("tconst"),
            matches("tconst", TCONST, severity="warning"),
            *not_null("primaryTitle", severity="warning", mostly=0.999),
            one_of("titleType", TITLE_TYPES, severity="warning"),
            between("startYear", 1870, 2120, severity="warning"),
            between("endYear", 1870, 2120, severity="warning"),
            not_before("endYear", "startYear", severity="warning"),
            between("runtimeMinutes", 0, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.imdb_title_ratings",
        _columns("tconst VARCHAR; averageRating DECIMAL(3,1); numVotes INTEGER"),
        (
            *not_null("tconst", "averageRating", "numVotes"),
            unique("tconst"),
            # Votes decide which of two films of one title is meant.
            between("averageRating", 1, 10),
            between("numVotes", 0),
            matches("tconst", TCONST, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.imdb_title_crew",
        _columns("tconst VARCHAR; directors VARCHAR; writers VARCHAR"),
        (
            *not_null("tconst"),
            unique("tconst"),
            matches("tconst", TCONST, severity="warning"),
            matches("directors", NCONSTS, severity="warning"),
            matches("writers", NCONSTS, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.imdb_title_principals",
        _columns("tconst VARCHAR; ordering INTEGER; nconst VARCHAR; category VARCHAR; job VARCHAR; characters VARCHAR"),
        (
            *not_null("tconst", "ordering", "nconst"),
            unique("tconst", "ordering"),
            matches("tconst", TCONST, severity="warning"),
            matches("nconst", NCONST, severity="warning"),
            one_of("category", CREDIT_CATEGORIES, severity="warning"),
            *not_null("category", severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.imdb_title_episode",
        _columns("tconst VARCHAR; parentTconst VARCHAR; seasonNumber INTEGER; episodeNumber INTEGER"),
        (
            *not_null("tconst"),
            unique("tconst"),
            *not_null("parentTconst", severity="warning"),
            matches("tconst", TCONST, severity="warning"),
            matches("parentTconst", TCONST, severity="warning"),
            between("seasonNumber", 0, severity="warning"),
            between("episodeNumber", 0, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "raw.imdb_title_akas",
        _columns(
            "titleId VARCHAR; ordering INTEGER; title VARCHAR; region VARCHAR; language VARCHAR; types VARCHAR;"
            " attributes VARCHAR; isOriginalTitle BOOLEAN"
        ),
        (
            *not_null("titleId", "ordering"),
            unique("titleId", "ordering"),
            matches("titleId", TCONST, severity="warning"),
            *not_null("title", severity="warning", mostly=0.999),
        ),
        others=True,
    ),
    Suite(
        "raw.imdb_name_basics",
        _columns(
            "nconst VARCHAR; primaryName VARCHAR; birthYear INTEGER; deathYear INTEGER; primaryProfession VARCHAR;"
            " knownForTitles VARCHAR"
        ),
        (
            *not_null("nconst"),
            unique("nconst"),
            matches("nconst", NCONST, severity="warning"),
            *not_null("primaryName", severity="warning", mostly=0.999),
            # Socrates and Homer are credited as writers, so births start early.
            between("birthYear", 0, 2100, severity="warning"),
            between("deathYear", 0, 2100, severity="warning"),
            not_before("deathYear", "birthYear", severity="warning"),
        ),
        others=True,
    ),
)

_SHOW = (
    "platform VARCHAR; show_id VARCHAR; type VARCHAR; title VARCHAR; director VARCHAR; cast VARCHAR; country VARCHAR;"
    " date_added VARCHAR; release_year INTEGER; rating VARCHAR; duration VARCHAR; listed_in VARCHAR;"
    " description VARCHAR"
)

# Each is empty where its file is missing.
_STREAMING = (
    *(
        Suite(
            f"raw.streaming_{name}_titles",
            _columns(_SHOW),
            (
                *not_null("platform", "show_id", "title", "release_year"),
                unique("show_id"),
                one_of("type", ["Movie", "TV Show"], severity="warning"),
                # Cleaning finds a length in either; without one the title is only described less well.
                matches("duration", r"^[0-9]+ (?:min|Seasons?)\Z", severity="warning"),
            ),
            others=True,
        )
        for name in ("netflix", "amazon_prime", "disney_plus", "hulu")
    ),
    Suite(
        "raw.streaming_ratings",
        _columns("userId INTEGER; rating DECIMAL(2,1); timestamp BIGINT; movieId VARCHAR; file VARCHAR"),
        (
            *not_null("userId", "rating", "timestamp", "movieId", "file"),
            one_of("rating", HALF_STARS),
            between("timestamp", 0, YEAR_2100),
        ),
        others=True,
    ),
)

_DIMENSIONS = (
    Suite(
        "marts.dim_movies",
        _columns(
            "movie_key BIGINT; edition VARCHAR; movie_id INTEGER; movie_ids INTEGER[]; in_movielens BOOLEAN;"
            " tconst VARCHAR; title VARCHAR; original_title VARCHAR; year INTEGER; decade INTEGER; genres VARCHAR[];"
            " imdb_genres VARCHAR[]; main_genre VARCHAR; title_type VARCHAR; runtime_minutes INTEGER;"
            " runtime_band VARCHAR; is_adult BOOLEAN;"
            " imdb_rating DECIMAL(3,1); imdb_votes INTEGER; directors VARCHAR[]; writers VARCHAR[];"
            " principal_cast VARCHAR[]; season_count INTEGER; episode_count INTEGER; series_title VARCHAR;"
            " match_method VARCHAR; match_confidence DECIMAL(3,2); link_url VARCHAR; link_kind VARCHAR;"
            " rating_count INTEGER; rating_mean DECIMAL(4,3); bayesian_rating DECIMAL(4,3)"
        ),
        (
            not_empty(),
            # A film that only IMDb has is of no edition and has no movieId.
            *not_null("movie_key", "movie_ids", "in_movielens", "title", "genres"),
            *not_null("match_method", "match_confidence", "link_url", "link_kind", "rating_count"),
            unique("movie_key"),
            unique("edition", "movie_id"),
            # Two films of one tconst are one film that would be recommended twice.
            unique("tconst"),
            one_of("match_method", ["link", "title_year", "aka_title_year", "near_year", "unmatched", "imdb_only"]),
            between("match_confidence", 0, 1),
            one_of("link_kind", ["imdb_title", "edition_url", "imdb_search"]),
            # People click on it.
            matches("link_url", r"^https?://."),
            between("rating_count", 0),
            between("rating_mean", 0.5, 5),
            between("bayesian_rating", 0.5, 5),
            between("imdb_rating", 1, 10),
            between("imdb_votes", 0),
            # Each costs one film a detail.
            matches("link_url", r"^[^\s]+\Z", severity="warning"),
            matches("tconst", TCONST, severity="warning"),
            between("year", 1870, 2120, severity="warning"),
            between("decade", 1870, 2120, severity="warning"),
            one_of("main_genre", [*GENRES, "IMAX"], severity="warning"),
            between("runtime_minutes", 0, severity="warning"),
            between("season_count", 0, severity="warning"),
            between("episode_count", 1, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.dim_users",
        _columns(
            "user_key BIGINT; edition VARCHAR; user_id INTEGER; gender VARCHAR; age INTEGER; occupation VARCHAR;"
            " zip_code VARCHAR; rating_count INTEGER; first_rated_at TIMESTAMP; last_rated_at TIMESTAMP"
        ),
        (
            not_empty(),
            *not_null("user_key", "edition", "user_id", "rating_count"),
            unique("user_key"),
            unique("edition", "user_id"),
            between("rating_count", 0),
            not_before("last_rated_at", "first_rated_at"),
            # Demographics describe and train nothing.
            one_of("gender", ["F", "M"], severity="warning"),
            between("age", 1, 120, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.dim_people",
        _columns(
            "nconst VARCHAR; name VARCHAR; birth_year INTEGER; death_year INTEGER; professions VARCHAR[];"
            " known_for_tconsts VARCHAR[]; movie_count INTEGER; directed_count INTEGER; written_count INTEGER;"
            " acted_count INTEGER; other_count INTEGER; first_year INTEGER; last_year INTEGER;"
            " rated_movie_count INTEGER; rating_mean DECIMAL(4,3)"
        ),
        (
            # Empty where no dump of credits was asked for; names are missing where only name.basics was not.
            *not_null("nconst", "movie_count"),
            unique("nconst"),
            between("movie_count", 1),
            not_before("movie_count", "rated_movie_count"),
            between("rating_mean", 0.5, 5),
            not_before("last_year", "first_year"),
            matches("nconst", NCONST, severity="warning"),
            between("birth_year", 0, 2100, severity="warning"),
            between("death_year", 0, 2100, severity="warning"),
            not_before("death_year", "birth_year", severity="warning"),
        ),
        others=True,
    ),
)

_FACTS = (
    Suite(
        "marts.fct_ratings",
        _columns(
            "user_key BIGINT; movie_key BIGINT; edition VARCHAR; rating DECIMAL(2,1); rated_at TIMESTAMP;"
            " times_rated INTEGER"
        ),
        (
            not_empty(),
            *not_null("user_key", "movie_key", "edition", "rating", "rated_at", "times_rated"),
            unique("user_key", "movie_key"),
            one_of("rating", HALF_STARS),
            between("rated_at", "1970-01-01", "2100-01-01"),
            between("times_rated", 1),
            between("rated_at", "1995-01-01", severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.bridge_movie_genres",
        _columns("movie_key BIGINT; genre VARCHAR"),
        (
            *not_null("movie_key", "genre"),
            unique("movie_key", "genre"),
            # A genre that is new has no feature column yet: the others are right.
            one_of("genre", [*GENRES, "IMAX"], severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.fct_credits",
        _columns("movie_key BIGINT; tconst VARCHAR; nconst VARCHAR; category VARCHAR; ordering INTEGER; job VARCHAR"),
        (
            *not_null("movie_key", "tconst", "nconst", "category"),
            # The same credit twice would count a person's film twice.
            unique("movie_key", "nconst", "category"),
            matches("tconst", TCONST, severity="warning"),
            matches("nconst", NCONST, severity="warning"),
            one_of("category", CREDIT_CATEGORIES, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.fct_episodes",
        _columns(
            "tconst VARCHAR; series_tconst VARCHAR; series_key BIGINT; movie_key BIGINT; series_title VARCHAR;"
            " season_number INTEGER; episode_number INTEGER; title VARCHAR; year INTEGER; imdb_rating DECIMAL(3,1);"
            " imdb_votes INTEGER"
        ),
        (
            # Empty where title.episode was not asked for, and where the catalogue has no series.
            *not_null("tconst"),
            unique("tconst"),
            between("imdb_rating", 1, 10),
            between("imdb_votes", 0),
            matches("tconst", TCONST, severity="warning"),
            between("season_number", 0, severity="warning"),
            between("episode_number", 0, severity="warning"),
            between("year", 1870, 2120, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.movie_titles",
        _columns(
            "movie_key BIGINT; title_number INTEGER; title VARCHAR; title_key VARCHAR; region VARCHAR;"
            " language VARCHAR; kind VARCHAR"
        ),
        (
            *not_null("movie_key", "title_number", "title", "title_key", "kind"),
            unique("movie_key", "title_number"),
            between("title_number", 1),
            one_of("kind", ["primary", "original", "edition", "aka"]),
        ),
        others=True,
    ),
    Suite(
        "marts.imdb_changes",
        _columns(
            "look INTEGER; tconst VARCHAR; change VARCHAR; movie_key BIGINT; dump VARCHAR; snapshot_at TIMESTAMP;"
            " former_snapshot_at TIMESTAMP; title VARCHAR; former_title VARCHAR; year INTEGER; former_year INTEGER;"
            " rating DECIMAL(3,1); former_rating DECIMAL(3,1); rating_move DECIMAL(3,1); votes INTEGER;"
            " former_votes INTEGER; vote_gain INTEGER"
        ),
        (
            # Empty until a dump has changed for the first time.
            *not_null("look", "tconst", "change", "dump"),
            unique("look", "tconst", "change"),
            one_of("change", ["added", "removed", "retitled", "redated", "rated", "unrated", "rerated"]),
            one_of("dump", ["title.basics", "title.ratings"]),
            between("rating", 1, 10),
            between("former_rating", 1, 10),
            between("rating_move", -9, 9),
            # A dump is seldom older than the one before it.
            not_before("snapshot_at", "former_snapshot_at", severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.fct_tags",
        _columns("user_key BIGINT; movie_key BIGINT; tag VARCHAR; tagged_at TIMESTAMP"),
        (
            *not_null("user_key", "movie_key", "tag", "tagged_at"),
            unique("user_key", "movie_key", "tag"),
            between("tagged_at", "1995-01-01", "2100-01-01", severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.movie_tags",
        _columns("movie_key BIGINT; tag VARCHAR; relevance FLOAT; user_count INTEGER"),
        (
            # Empty where nobody tags and the edition has no genome.
            *not_null("movie_key", "tag", "user_count"),
            unique("movie_key", "tag"),
            between("relevance", 0, 1),
            between("user_count", 0),
        ),
        others=True,
    ),
)

# Features are read by name and type from Parquet, by training and by serving: their columns are exactly these.
_FEATURES = (
    Suite(
        "marts.user_features",
        _columns(
            "user_key BIGINT; feature_timestamp TIMESTAMP; rating_count INTEGER; rating_mean DOUBLE;"
            " rating_stddev DOUBLE; positive_share DOUBLE; active_days INTEGER; days_since_first INTEGER;"
            " mean_release_year DOUBLE;" + ";".join(f"genre_share_{genre} DOUBLE" for genre in GENRE_COLUMNS)
        ),
        (
            not_empty(),
            *not_null("user_key", "feature_timestamp", "rating_count", "rating_mean", "rating_stddev"),
            *not_null("positive_share", "active_days", "days_since_first"),
            *not_null(*(f"genre_share_{genre}" for genre in GENRE_COLUMNS)),
            # Two states of one moment: which of them a join takes would be chance.
            unique("user_key", "feature_timestamp"),
            between("feature_timestamp", "1970-01-02", "2100-01-01"),
            between("rating_count", 1),
            between("rating_mean", 0.5, 5),
            between("rating_stddev", 0, 2.25),
            between("positive_share", 0, 1),
            between("active_days", 1),
            not_before("rating_count", "active_days"),
            between("days_since_first", 1),
            not_before("days_since_first", "active_days"),
            *(between(f"genre_share_{genre}", 0, 1) for genre in GENRE_COLUMNS),
            # NULL for who has rated only films without a year.
            between("mean_release_year", 1870, 2120, severity="warning"),
        ),
    ),
    Suite(
        "marts.movie_features",
        _columns(
            "movie_key BIGINT; feature_timestamp TIMESTAMP; rating_count INTEGER; rating_mean DOUBLE;"
            " rating_stddev DOUBLE; positive_share DOUBLE; days_since_first INTEGER"
        ),
        (
            not_empty(),
            *not_null("movie_key", "feature_timestamp", "rating_count", "rating_mean", "rating_stddev"),
            *not_null("positive_share", "days_since_first"),
            unique("movie_key", "feature_timestamp"),
            between("feature_timestamp", "1970-01-02", "2100-01-01"),
            between("rating_count", 1),
            between("rating_mean", 0.5, 5),
            between("rating_stddev", 0, 2.25),
            between("positive_share", 0, 1),
            between("days_since_first", 1),
        ),
    ),
    Suite(
        "marts.movie_content",
        _columns(
            "movie_key BIGINT; feature_timestamp TIMESTAMP; release_year INTEGER; runtime_minutes INTEGER;"
            + ";".join(f"is_{genre} INTEGER" for genre in GENRE_COLUMNS)
        ),
        (
            not_empty(),
            *not_null("movie_key", "feature_timestamp", *(f"is_{genre}" for genre in GENRE_COLUMNS)),
            unique("movie_key"),
            *(one_of(f"is_{genre}", [0, 1]) for genre in GENRE_COLUMNS),
            between("release_year", 1870, 2120, severity="warning"),
            between("runtime_minutes", 0, severity="warning"),
        ),
    ),
    Suite(
        "marts.movie_imdb",
        _columns("movie_key BIGINT; feature_timestamp TIMESTAMP; imdb_rating DOUBLE; imdb_votes INTEGER"),
        (
            # Empty where title.ratings was not asked for.
            *not_null("movie_key", "feature_timestamp", "imdb_rating", "imdb_votes"),
            unique("movie_key", "feature_timestamp"),
            between("imdb_rating", 1, 10),
            between("imdb_votes", 0),
        ),
    ),
)

# What analysts ask beside the core: nothing else reads these.
_ANALYSTS = (
    Suite(
        "marts.dim_streaming_titles",
        _columns(
            "title_id VARCHAR; platform VARCHAR; show_id VARCHAR; type VARCHAR; title VARCHAR; date_added DATE;"
            " release_year INTEGER; rating VARCHAR; duration INTEGER; duration_type VARCHAR; movie_key BIGINT;"
            " match_method VARCHAR; match_confidence DECIMAL(3,2); score DECIMAL(4,3); score_source VARCHAR;"
            " rating_count INTEGER"
        ),
        (
            *not_null("title_id", "platform", "show_id", "title", "rating", "match_method", "score_source"),
            unique("title_id"),
            one_of("platform", ["netflix", "amazon", "disney", "hulu"]),
            one_of("score_source", ["user_ratings", "imdb", "none"]),
            one_of("duration_type", ["min", "season"]),
            between("match_confidence", 0, 1),
            between("score", 0.5, 5),
            between("rating_count", 0),
            one_of("type", ["movie", "tv show"], severity="warning"),
            between("release_year", 1870, 2120, severity="warning"),
        ),
        others=True,
    ),
    Suite(
        "marts.bridge_title_cast",
        _columns("title_id VARCHAR; actor VARCHAR; billing INTEGER"),
        (*not_null("title_id", "actor", "billing"), unique("title_id", "actor"), between("billing", 1)),
        others=True,
    ),
    Suite(
        "marts.bridge_title_country",
        _columns("title_id VARCHAR; country VARCHAR"),
        (*not_null("title_id", "country"), unique("title_id", "country")),
        others=True,
    ),
    Suite(
        "marts.fct_movie_popularity",
        _columns(
            "movie_key BIGINT; month DATE; rating_count INTEGER; rating_mean DECIMAL(4,3); rating_count_before INTEGER;"
            " trend DECIMAL(12,2)"
        ),
        (
            *not_null("movie_key", "month", "rating_count", "rating_mean", "rating_count_before", "trend"),
            unique("movie_key", "month"),
            between("rating_count", 1),
            between("rating_mean", 0.5, 5),
            between("rating_count_before", 0),
        ),
        others=True,
    ),
    Suite(
        "marts.metrics",
        _columns("metric VARCHAR; since DATE; month DATE; label VARCHAR; unit VARCHAR; value DECIMAL(18,6)"),
        (
            *not_null("metric", "since", "label", "unit", "value"),
            unique("metric", "since"),
            between("value", 0),
        ),
        others=True,
    ),
    Suite(
        "marts.fct_retention",
        _columns(
            "edition VARCHAR; cohort_month DATE; months_since INTEGER; cohort_users INTEGER; active_users INTEGER;"
            " retention DOUBLE"
        ),
        (
            *not_null("edition", "cohort_month", "months_since", "cohort_users", "active_users", "retention"),
            unique("edition", "cohort_month", "months_since"),
            between("months_since", 0),
            not_before("cohort_users", "active_users"),
            between("retention", 0, 1),
        ),
        others=True,
    ),
    Suite(
        "marts.fct_user_sessions",
        _columns(
            "user_key BIGINT; session_number INTEGER; started_at TIMESTAMP; ended_at TIMESTAMP; rating_count INTEGER;"
            " rating_mean DECIMAL(4,3)"
        ),
        (
            *not_null("user_key", "session_number", "started_at", "ended_at", "rating_count", "rating_mean"),
            unique("user_key", "session_number"),
            between("session_number", 1),
            between("rating_count", 1),
            between("rating_mean", 0.5, 5),
            not_before("ended_at", "started_at"),
        ),
        others=True,
    ),
    Suite(
        "marts.user_taste",
        _columns(
            "user_key BIGINT; dimension VARCHAR; label VARCHAR; rating_count INTEGER; rating_mean DECIMAL(4,3);"
            " share DOUBLE; base_share DOUBLE; lift DOUBLE"
        ),
        (
            *not_null("user_key", "dimension", "label", "rating_count", "rating_mean", "share", "base_share", "lift"),
            unique("user_key", "dimension", "label"),
            one_of("dimension", ["genre", "decade"]),
            between("rating_count", 1),
            between("rating_mean", 0.5, 5),
            between("share", 0, 1),
            between("base_share", 0, 1),
            between("lift", 0),
        ),
        others=True,
    ),
    Suite(
        "marts.user_habits",
        _columns(
            "user_key BIGINT; edition VARCHAR; rating_count INTEGER; active_days INTEGER; ratings_per_day DOUBLE;"
            " tenure_days INTEGER; days_since_last INTEGER; rating_mean DOUBLE; positive_share DOUBLE;"
            " mean_release_year DOUBLE; film_rating_count DOUBLE; favourite_genre VARCHAR;"
            + ";".join(f"genre_share_{genre} DOUBLE" for genre in GENRE_COLUMNS)
        ),
        (
            *not_null("user_key", "edition", "rating_count", "active_days", "tenure_days", "days_since_last"),
            unique("user_key"),
            between("rating_count", 1),
            not_before("rating_count", "active_days"),
            between("days_since_last", 0),
            between("rating_mean", 0.5, 5),
            *(between(f"genre_share_{genre}", 0, 1) for genre in GENRE_COLUMNS),
        ),
        others=True,
    ),
    Suite(
        "marts.entry_points",
        _columns(
            "movie_key BIGINT; newcomers INTEGER; stayed INTEGER; stay_rate DOUBLE; stay_rate_low DOUBLE;"
            " stay_rate_high DOUBLE; base_rate DOUBLE; lift DOUBLE"
        ),
        (
            *not_null("movie_key", "newcomers", "stayed", "stay_rate", "stay_rate_low", "stay_rate_high", "base_rate"),
            unique("movie_key"),
            not_before("newcomers", "stayed"),
            between("stay_rate_low", 0, 1),
            between("stay_rate_high", 0, 1),
        ),
        others=True,
    ),
    Suite(
        "marts.loyal_vs_new",
        _columns(
            "measure VARCHAR; loyal_users INTEGER; new_users INTEGER; loyal_mean DOUBLE; new_mean DOUBLE;"
            " difference DOUBLE; pooled_stddev DOUBLE; cohens_d DOUBLE; cohens_d_low DOUBLE; cohens_d_high DOUBLE;"
            " magnitude VARCHAR"
        ),
        (
            *not_null("measure", "loyal_users", "new_users", "loyal_mean", "new_mean", "difference"),
            unique("measure"),
            between("loyal_users", 2),
            between("new_users", 2),
            one_of("magnitude", ["negligible", "small", "medium", "large"]),
        ),
        others=True,
    ),
    Suite(
        "marts.served_traffic",
        _columns(
            "day DATE; route VARCHAR; model_version VARCHAR; arm VARCHAR; answer_count INTEGER; request_count INTEGER;"
            " user_count INTEGER; fallback_count INTEGER; fallback_share DOUBLE; empty_count INTEGER;"
            " film_count BIGINT; latency_p50_ms DOUBLE; latency_p90_ms DOUBLE; latency_p99_ms DOUBLE;"
            " overlap_mean DOUBLE"
        ),
        (
            *not_null("day", "route", "model_version", "arm", "answer_count", "fallback_share", "latency_p50_ms"),
            unique("day", "route", "model_version", "arm"),
            between("answer_count", 1),
            between("fallback_share", 0, 1),
            between("overlap_mean", 0, 1),
            between("latency_p50_ms", 0),
            one_of("arm", ["none", "champion", "challenger", "shadow"]),
        ),
        others=True,
    ),
    Suite(
        "marts.served_feedback",
        _columns(
            "answer_id BIGINT; rank INTEGER; answered_at TIMESTAMP; subject VARCHAR; route VARCHAR;"
            " model_version VARCHAR; experiment VARCHAR; arm VARCHAR; movie_key BIGINT; score DOUBLE;"
            " is_clicked BOOLEAN; is_viewed BOOLEAN; is_watchlisted BOOLEAN; is_dismissed BOOLEAN; is_rated BOOLEAN;"
            " rating DECIMAL(2,1); is_liked BOOLEAN; seconds_to_response INTEGER"
        ),
        (
            *not_null("answer_id", "rank", "subject", "movie_key", "is_clicked", "is_rated"),
            unique("answer_id", "rank"),
            # Twice in a list is once too often.
            unique("answer_id", "movie_key"),
            between("rank", 1),
            one_of("rating", HALF_STARS),
            one_of("arm", ["champion", "challenger"]),
        ),
        others=True,
    ),
    Suite(
        "marts.ab_outcome",
        _columns(
            "experiment VARCHAR; measure VARCHAR; champion_users INTEGER; challenger_users INTEGER;"
            " champion_chances BIGINT; challenger_chances BIGINT; champion_rate DOUBLE; challenger_rate DOUBLE;"
            " difference DOUBLE; difference_low DOUBLE; difference_high DOUBLE; verdict VARCHAR"
        ),
        (
            *not_null("experiment", "measure", "difference", "difference_low", "difference_high", "verdict"),
            unique("experiment", "measure"),
            between("champion_users", 2),
            between("challenger_users", 2),
            between("champion_rate", 0, 1),
            between("challenger_rate", 0, 1),
            one_of("verdict", ["better", "worse", "unclear"]),
        ),
        others=True,
    ),
    Suite(
        "marts.user_segments",
        _columns("user_key BIGINT; segment INTEGER; segment_name VARCHAR; distance DOUBLE"),
        (
            *not_null("user_key", "segment", "segment_name", "distance"),
            unique("user_key"),
            between("segment", 1),
            between("distance", 0),
        ),
    ),
    Suite(
        "marts.recommendations",
        _columns(
            "user_key BIGINT; rank INTEGER; movie_key BIGINT; score DOUBLE; reason_kind VARCHAR;"
            " reason_movie_key BIGINT; reason VARCHAR; model_version VARCHAR"
        ),
        (
            *not_null("user_key", "rank", "movie_key", "score", "reason_kind", "reason", "model_version"),
            unique("user_key", "rank"),
            # Twice in a list is once too often.
            unique("user_key", "movie_key"),
            between("rank", 1, 50),
            one_of("reason_kind", ["like_film", "popular", "overall"]),
        ),
    ),
    Suite(
        "marts.quarantine",
        _columns("source VARCHAR; table_name VARCHAR; file VARCHAR; line BIGINT; reason VARCHAR; content VARCHAR"),
        (
            *not_null("table_name", "file", "line", "reason"),
            unique("table_name", "file", "line"),
            between("line", 1),
        ),
        others=True,
    ),
    Suite(
        "marts.match_judgement",
        _columns(
            "edition VARCHAR; movie_id INTEGER; movie_key BIGINT; title VARCHAR; year INTEGER; linked_tconst VARCHAR;"
            " is_in_imdb BOOLEAN; found_tconst VARCHAR; match_method VARCHAR; match_confidence DECIMAL(3,2);"
            " verdict VARCHAR"
        ),
        (
            *not_null("edition", "movie_id", "movie_key", "linked_tconst", "is_in_imdb", "match_method", "verdict"),
            unique("edition", "movie_id"),
            one_of("match_method", ["title_year", "aka_title_year", "near_year", "unmatched"]),
            between("match_confidence", 0, 1),
            one_of("verdict", ["right", "wrong", "missed", "absent"]),
        ),
    ),
    Suite(
        "marts.mart_profile",
        _columns(
            "mart VARCHAR; column_name VARCHAR; position INTEGER; type VARCHAR; row_count BIGINT; missing BIGINT;"
            " distinct_count BIGINT; is_exact BOOLEAN; least VARCHAR; greatest VARCHAR; q25 DOUBLE; median DOUBLE;"
            " q75 DOUBLE; mean DOUBLE; stddev DOUBLE; outlier_share DOUBLE; sampled_rows BIGINT;"
            " content_version VARCHAR"
        ),
        (
            *not_null("mart", "column_name", "position", "type", "row_count", "missing", "distinct_count"),
            unique("mart", "column_name"),
            not_before("row_count", "missing"),
            not_before("median", "q25"),
            not_before("q75", "median"),
            between("outlier_share", 0, 1),
        ),
    ),
    Suite(
        "marts.mart_correlations",
        _columns("mart VARCHAR; column_a VARCHAR; column_b VARCHAR; correlation DOUBLE; sampled_rows BIGINT"),
        (
            *not_null("mart", "column_a", "column_b", "correlation"),
            unique("mart", "column_a", "column_b"),
            between("correlation", -1, 1),
        ),
    ),
    Suite(
        "marts.check_results",
        _columns(
            "asset VARCHAR; check_name VARCHAR; is_blocking BOOLEAN; status VARCHAR; severity VARCHAR;"
            " description VARCHAR; checked_at TIMESTAMP; run_id VARCHAR"
        ),
        (
            *not_null("asset", "check_name", "is_blocking", "status"),
            unique("asset", "check_name"),
            one_of("status", ["passed", "failed", "never"]),
        ),
    ),
    Suite(
        "marts.run_history",
        _columns(
            "run_id VARCHAR; job VARCHAR; reason VARCHAR; status VARCHAR; started_at TIMESTAMP; ended_at TIMESTAMP;"
            " seconds DOUBLE; asset_count INTEGER"
        ),
        (*not_null("run_id", "job", "status"), unique("run_id")),
    ),
    Suite(
        "marts.asset_lineage",
        _columns("upstream VARCHAR; downstream VARCHAR; upstream_group VARCHAR; downstream_group VARCHAR"),
        (*not_null("upstream", "downstream"), unique("upstream", "downstream")),
    ),
)

#: Every suite by its table, ``schema.name``.
SUITES: dict[str, Suite] = {
    suite.table: suite for suite in (*_MOVIELENS, *_IMDB, *_STREAMING, *_DIMENSIONS, *_FACTS, *_FEATURES, *_ANALYSTS)
}
