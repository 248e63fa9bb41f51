"""What can be asked of the feature store: entities, feature views and the feature service, in one file.

Feast's own command line imports a copy of this file by its name from ``$MARQUEE_HOME/feast``, so it imports nothing but
feast and reads nothing. The Parquet paths are relative to that folder, which makes a home movable.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, PushSource, ValueType
from feast.types import Float64, Int32

#: The 18 genres of MovieLens, as they end a column's name; the order is that of every feature matrix.
GENRES = (
    "action",
    "adventure",
    "animation",
    "children",
    "comedy",
    "crime",
    "documentary",
    "drama",
    "fantasy",
    "film_noir",
    "horror",
    "musical",
    "mystery",
    "romance",
    "sci_fi",
    "thriller",
    "war",
    "western",
)

OWNER = "marquee"
TIMESTAMP = "feature_timestamp"
#: A history holds until its next row, however long ago it was written.
UNLIMITED = timedelta(0)


def _source(name: str, description: str) -> FileSource:
    """Return the source of one mart: the Parquet file of the same name."""
    return FileSource(
        name=name,
        path=f"../features/{name}.parquet",
        timestamp_field=TIMESTAMP,
        description=description,
        owner=OWNER,
        tags={"mart": name},
    )


project = Project(name="marquee", description="Features of the movie recommender", owner=OWNER)

user = Entity(
    name="user",
    join_keys=["user_key"],
    value_type=ValueType.INT64,
    description="A person who rates films; the key is unique across editions and the app",
    owner=OWNER,
)
movie = Entity(
    name="movie",
    join_keys=["movie_key"],
    value_type=ValueType.INT64,
    description="A film; the key is unique across editions",
    owner=OWNER,
)

user_features = FeatureView(
    name="user_features",
    description="Taste and activity of a user: a row a user and day of change, over the ratings that stood before it",
    entities=[user],
    ttl=UNLIMITED,
    source=PushSource(
        name="user_features_push",
        batch_source=_source("user_features", "History of users, at the midnight after each day with ratings"),
        description="Features of this moment of somebody who has just rated in the app, until the next run",
        owner=OWNER,
        tags={"mart": "user_features"},
    ),
    schema=[
        Field(name="rating_count", dtype=Int32, description="Movies rated, each counted once"),
        Field(name="rating_mean", dtype=Float64, description="Mean rating, in stars"),
        Field(name="rating_stddev", dtype=Float64, description="Standard deviation of the ratings, in stars"),
        Field(name="positive_share", dtype=Float64, description="Share of ratings of 4 stars or more, 0 to 1"),
        Field(name="active_days", dtype=Int32, description="Days (UTC) with a rating that stands"),
        Field(name="days_since_first", dtype=Int32, description="Days since the first rating that stands"),
        Field(name="mean_release_year", dtype=Float64, description="Mean release year of the rated films"),
        *(
            Field(
                name=f"genre_share_{genre}",
                dtype=Float64,
                description=f"Share of ratings whose film is {genre}, 0 to 1",
            )
            for genre in GENRES
        ),
    ],
    tags={"kind": "history", "grain": "user_key, day of change"},
    owner=OWNER,
)

movie_features = FeatureView(
    name="movie_features",
    description="How a film is received: one row a film and day of change, over the ratings that stood before it",
    entities=[movie],
    ttl=UNLIMITED,
    source=_source("movie_features", "History of films, at the midnight after each day with ratings"),
    schema=[
        Field(name="rating_count", dtype=Int32, description="Users who rated the movie, each counted once"),
        Field(name="rating_mean", dtype=Float64, description="Mean rating, in stars"),
        Field(name="rating_stddev", dtype=Float64, description="Standard deviation of the ratings, in stars"),
        Field(name="positive_share", dtype=Float64, description="Share of ratings of 4 stars or more, 0 to 1"),
        Field(name="days_since_first", dtype=Int32, description="Days since the first rating that stands"),
    ],
    tags={"kind": "history", "grain": "movie_key, day of change"},
    owner=OWNER,
)

movie_content = FeatureView(
    name="movie_content",
    description="What a film is: one row a film, known from the start",
    entities=[movie],
    ttl=UNLIMITED,
    source=_source("movie_content", "Facts that do not change, dated 1900-01-01"),
    schema=[
        Field(name="release_year", dtype=Int32, description="Year of release"),
        Field(name="runtime_minutes", dtype=Int32, description="Running time in minutes; missing if unknown"),
        *(Field(name=f"is_{genre}", dtype=Int32, description=f"1 if the film is {genre}, else 0") for genre in GENRES),
    ],
    tags={"kind": "constant", "grain": "movie_key"},
    owner=OWNER,
)

movie_imdb = FeatureView(
    name="movie_imdb",
    description="IMDb's rating and votes when the dump was made: a snapshot without a past, so not in the service",
    entities=[movie],
    ttl=UNLIMITED,
    source=_source("movie_imdb", "The latest title.ratings dump, dated by the dump's own time"),
    schema=[
        Field(name="imdb_rating", dtype=Float64, description="IMDb's mean rating, 1 to 10"),
        Field(name="imdb_votes", dtype=Int32, description="Votes on IMDb"),
    ],
    tags={"kind": "snapshot", "grain": "movie_key"},
    owner=OWNER,
)

recommender_v1 = FeatureService(
    name="recommender_v1",
    features=[user_features, movie_features, movie_content],
    description="What the recommender's model reads, in training and in serving",
    tags={"history": "point in time"},
    owner=OWNER,
)

ENTITIES = (user, movie)
VIEWS = (user_features, movie_features, movie_content, movie_imdb)
SERVICE = recommender_v1
