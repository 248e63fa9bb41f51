"""The bodies of requests and answers of the API, one class a body or a part of one.

The examples here are what OpenAPI shows and what the tests send.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator
from pydantic.config import JsonDict

from bento.schemas.request_cost import MAX_BATCH_MOVIES, MAX_BATCH_REASONS

#: The most items that one answer can hold.
MAX_K = 500
DEFAULT_K = 20

#: Bodies that work on any edition; shown in OpenAPI and sent by the tests.
EXAMPLE_INPUT: dict[str, JsonDict] = {
    "recommend": {"user_id": 1, "k": 20},
    "similar": {"movie_id": 1, "k": 20},
    "recommend_batch": {"user_ids": [1, 2, 3], "k": 5},
    "recommend_for_movie": {"user_id": 1, "movie_id": 1, "k": 20},
    "cold_start": {"genres": ["Comedy"], "liked": [1], "k": 20},
    "predict_rating": {"user_id": 1, "movie_id": 1},
    "explain": {"user_id": 1, "movie_id": 1},
}

_EXAMPLE_ITEM: JsonDict = {
    "rank": 1,
    "movie_id": 318,
    "movie_key": 278,
    "imdb_id": "tt0111161",
    "title": "The Shawshank Redemption",
    "year": 1994,
    "genres": ["Crime", "Drama"],
    "score": 4.82,
    "link": "https://www.imdb.com/title/tt0111161/",
    "link_kind": "imdb_title",
    "source": "collaborative",
    "reason": {
        "text": "Because you rated Pulp Fiction and The Usual Suspects; genre Crime.",
        "films": [
            {"movie_id": 296, "title": "Pulp Fiction", "weight": 0.21},
            {"movie_id": 50, "title": "The Usual Suspects", "weight": 0.17},
        ],
        "words": [{"kind": "genre", "word": "Crime", "weight": 0.04}],
    },
}
_EXAMPLE_PROVENANCE: JsonDict = {
    "model_version": "neumf-0a1b2c3d4e5f",
    "recommender": "neumf",
    "data_snapshot": {"edition": "ml-latest-small", "fct_ratings": "3f2a9c1e0b77d215"},
    "feature_service": "recommender_v1",
    "feature_hash": "9d5ed678fe57bcca",
    "feature_timestamp": "2018-09-25T00:00:00Z",
    "missing_features": [],
    "app_ratings": 3,
    "blend": None,
    "experiment": None,
    "arm": None,
}


Id = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
IndexKind = Literal["exact", "faiss", "annoy"]
Likeness = Literal["behaviour", "content", "hybrid"]
ItemSource = Literal["collaborative", "content", "popular"]
ModelName = Annotated[str, Field(min_length=1, max_length=40)]
Genre = Annotated[str, Field(min_length=1, max_length=40)]


class Wishes(BaseModel):
    """How many films, and which are not to be among them; the same for every route that recommends."""

    k: int = Field(
        default=DEFAULT_K,
        ge=1,
        le=MAX_K,
        description="How many films; where fewer are left to recommend, the answer holds those.",
        examples=[20],
    )
    genres: Annotated[list[Genre], FailFast()] = Field(
        default=[], max_length=30, description="Only films of one of these genres; 400 for one that no film has."
    )
    min_year: int | None = Field(default=None, ge=0, le=9999, description="Released in this year or later.")
    max_year: int | None = Field(default=None, ge=0, le=9999, description="Released in this year or before.")
    min_votes: int = Field(
        default=0, ge=0, le=2**63 - 1, description="Rated at least so often in the data that the model was trained on."
    )
    min_runtime: int | None = Field(default=None, ge=0, le=100_000, description="At least so many minutes long.")
    max_runtime: int | None = Field(default=None, ge=0, le=100_000, description="At most so many minutes long.")
    adult: bool = Field(default=False, description="Also films that IMDb marks as for adults.")
    exclude: Annotated[list[Id], FailFast()] = Field(
        default=[], max_length=1_000, description="Ids of films to leave out; ids that no film has leave nothing out."
    )
    diversity: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="What it costs a film to have the genres of better ones: 0 orders by score alone, 1 by unlikeness.",
    )


class WayWishes(Wishes):
    """Which of the bundle's models orders the films, and how much their words count beside it."""

    model: ModelName | None = Field(
        default=None,
        description="Which model orders the films: the promoted one (null, or its name), `popularity`, or `content`,"
        " which compares their words (genre, decade, title) with those of what the user met and knows everybody who has"
        " met a film. 400 lists the models that the bundle ships.",
    )
    blend: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How much the content counts beside that model, each in standard deviations of the user's scores:"
        " 0 is the model alone, 1 the content alone. For who has met no film with a word it is as 0; 400 where the"
        " bundle ships no `content`.",
        examples=[0.3],
    )

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if self.model == "content" and 0 < self.blend < 1:
            raise ValueError("a blend is of the content and another model: leave the model or the blend out")
        return self


class Met(BaseModel):
    """A film of a history that is sent along."""

    model_config = ConfigDict(extra="forbid", strict=True)

    movie_id: Id
    rating: float = Field(default=5.0, ge=0.5, le=5, multiple_of=0.5, description="0.5 to 5 in half steps.")


class RecommendRequest(WayWishes):
    """Whom to recommend films to, which, and how many."""

    model_config = ConfigDict(
        title="RecommendRequest", extra="forbid", strict=True, json_schema_extra={"example": EXAMPLE_INPUT["recommend"]}
    )

    user_id: Id | None = Field(
        default=None,
        description="The edition's own id of the user (`userId` of its ratings), or the app's; null with a `history`.",
        examples=[1],
    )
    history: Annotated[list[Met] | None, FailFast()] = Field(
        default=None,
        max_length=10_000,
        description="Instead of a user: what somebody who is nobody's user has met, the latest last. Films that the"
        " model does not have count for nothing.",
    )
    include_seen: bool = Field(default=False, description="Also films that the user has rated already.")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if (self.user_id is None) == (self.history is None):
            raise ValueError("either user_id or history is wanted, and not both")
        return self


class BatchRequest(WayWishes):
    """Whom to recommend films to in one call."""

    model_config = ConfigDict(
        title="BatchRequest",
        extra="forbid",
        strict=True,
        json_schema_extra={"example": EXAMPLE_INPUT["recommend_batch"]},
    )

    user_ids: Annotated[list[Id], FailFast()] = Field(
        min_length=1,
        max_length=200,
        description="As in `/recommend`; one who is named several times is answered once, where he is named first. At"
        f" most {MAX_BATCH_MOVIES:,} movies over all users, {MAX_BATCH_REASONS:,} with reasons.",
        examples=[[1, 2, 3]],
    )
    include_seen: bool = Field(default=False, description="Also films that the users have rated already.")
    reasons: bool = Field(
        default=False, description="Also say why each film is there, which takes longer than choosing the films does."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        users = list(dict.fromkeys(self.user_ids))
        most = MAX_BATCH_REASONS if self.reasons else MAX_BATCH_MOVIES
        if len(users) * self.k > most:
            raise ValueError(
                f"{len(users)} users x {self.k} movies are {len(users) * self.k:,}, and one request"
                f" {'with reasons ' if self.reasons else ''}may ask for {most:,}: name at most {most // self.k} users,"
                f" ask for a k of at most {most // len(users)}, or send several requests"
            )
        self.user_ids = users
        return self


class ForMovieRequest(WayWishes):
    """A user and a film: others like it are wanted, for this user."""

    model_config = ConfigDict(
        title="ForMovieRequest", extra="forbid", strict=True,
        json_schema_extra={"example": EXAMPLE_INPUT["recommend_for_movie"]},
    )  # fmt: skip

    user_id: Id = Field(description="As in `/recommend`.", examples=[1])
    movie_id: Id | None = Field(default=None, description="The edition's own id of the film; or send a title.")
    title: str | None = Field(
        default=None, min_length=1, max_length=200, description="The film's title, as people type it, a year behind it."
    )
    include_seen: bool = Field(default=False, description="Also films that the user has rated already.")

    @model_validator(mode="after")
    def _some_film(self) -> Self:
        if (self.movie_id is None) == (self.title is None):
            raise ValueError("either movie_id or title is wanted, and not both")
        return self


class ColdStartRequest(Wishes):
    """What somebody likes of whom nothing else is known."""

    model_config = ConfigDict(
        title="ColdStartRequest", extra="forbid", strict=True,
        json_schema_extra={"example": EXAMPLE_INPUT["cold_start"]},
    )  # fmt: skip

    genres: Annotated[list[Genre], FailFast()] = Field(
        min_length=1,
        max_length=30,
        description="Preferred genres: their films come first; 400 for one that no film has.",
    )
    liked: Annotated[list[Id], FailFast()] = Field(
        default=[],
        max_length=1_000,
        description="Ids of films that are liked; one that the model has not counts nothing.",
    )


class SimilarRequest(BaseModel):
    """The film to find others like, and how many."""

    model_config = ConfigDict(
        title="SimilarRequest", extra="forbid", strict=True, json_schema_extra={"example": EXAMPLE_INPUT["similar"]}
    )

    movie_id: Id = Field(description="The edition's own id of the film (`movieId` of its movies).", examples=[1])
    k: int = Field(
        default=DEFAULT_K,
        ge=1,
        le=MAX_K,
        description="How many films; where there are fewer, the answer holds those.",
        examples=[20],
    )
    index: IndexKind = Field(
        default="exact",
        description="How they are found: `exact` looks at every film; `faiss` and `annoy` at some, and may miss one."
        " 400 where the served model has no vector a film, or `annoy` is not installed. Likeness by content or another"
        " model than the promoted one has `exact` alone.",
    )
    by: Likeness = Field(
        default="behaviour",
        description="What makes films alike: `behaviour`, that the same people met them; `content`, that they share"
        " words (genre, decade, title), so that no film without one is listed; `hybrid`, both alike, each in standard"
        " deviations over the films. 400 for the last two where the bundle ships no `content`.",
        examples=["behaviour"],
    )
    model: ModelName | None = Field(
        default=None,
        description="Whose likeness `behaviour` is: the promoted model's (null, or its name), `popularity`, whose"
        " neighbours are popular films, or `content`. 400 lists the models that the bundle ships.",
    )

    @model_validator(mode="after")
    def _one_likeness(self) -> Self:
        if (self.by == "content" and self.model not in (None, "content")) or (
            self.by == "hybrid" and self.model == "content"
        ):
            raise ValueError(f"by {self.by} is not the likeness of the model {self.model}: leave one of them out")
        return self


class _OfOneFilm(BaseModel):
    """A user and a film."""

    user_id: Id = Field(description="As in `/recommend`.", examples=[1])
    movie_id: Id = Field(
        description="The edition's own id of the film; 404 for one that the model has not.", examples=[1]
    )


class PredictRatingRequest(_OfOneFilm):
    """A user and a film: the stars are wanted that he would give it."""

    model_config = ConfigDict(
        title="PredictRatingRequest", extra="forbid", strict=True,
        json_schema_extra={"example": EXAMPLE_INPUT["predict_rating"]},
    )  # fmt: skip


class ExplainRequest(_OfOneFilm):
    """A user and a film: what speaks for it is wanted."""

    model_config = ConfigDict(
        title="ExplainRequest", extra="forbid", strict=True, json_schema_extra={"example": EXAMPLE_INPUT["explain"]}
    )


class ReasonFilm(BaseModel):
    """A film that the user rated, and what it weighs in a recommendation."""

    movie_id: int = Field(description="The edition's own id of the film.")
    title: str = Field(description="Title without the year.")
    weight: float = Field(
        description="How much this rating raises the film's score: for a model that reads the history what the score"
        " would lose without it. Comparable within one answer."
    )


class ReasonWord(BaseModel):
    """A word that a recommended film shares with what the user rated."""

    kind: str = Field(description="`genre`, `decade` of release, `title` or `tag`.")
    word: str = Field(description="The word itself.")
    weight: float = Field(description="What the word gives to the score; comparable within one answer.")


class Reason(BaseModel):
    """Why a film is recommended, computed from the model that scored it: as a sentence and as data."""

    text: str = Field(description="The reason as a sentence.")
    films: list[ReasonFilm] = Field(description="What of the user's ratings weighed most, heaviest first.")
    words: list[ReasonWord] = Field(description="The content that weighed most, where the model reads content.")


class Item(BaseModel):
    """One film of an answer."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE_ITEM})

    rank: int = Field(ge=1, description="1 is the best.")
    movie_id: int = Field(description="The edition's own id of the film.")
    movie_key: int = Field(description="The platform's key of the film, as in the warehouse and the feature store.")
    imdb_id: str | None = Field(description="IMDb's id of the title, null where the film has no match there.")
    title: str = Field(description="Title without the year, with its article in front.")
    year: int | None = Field(description="Year of release, null where unknown.")
    genres: list[str] = Field(description="MovieLens genres.")
    score: float = Field(description="Score that the films are ordered by; comparable only within one answer.")
    link: str | None = Field(description="A page about the film.")
    link_kind: str | None = Field(
        description="What the link is: `imdb_title`, `edition_url` (the edition's own) or `imdb_search` (no match)."
    )
    source: ItemSource = Field(
        description="What gave the film its score, or the larger part of it: what people met, the film's words, or how"
        " many met it."
    )
    reason: Reason | None = Field(
        default=None,
        description="What of the user's history and of the film's content weighed most; null where the model's scores"
        " do not tell.",
    )


class Fallback(BaseModel):
    """What answered instead of the model, and why."""

    used: Literal["popularity", "likeness", "averages"] = Field(
        description="What the films are ordered by: how many met them, or likeness to what the user rated in the app;"
        " of a predicted rating `averages`, what people give the film."
    )
    cause: Literal["unknown_user", "new_user", "no_features", "feature_store_unavailable", "no_history", "no_words"] = (
        Field(
            description="The reason as a code: known to nobody, known to the app and not yet to the model, not in the"
            " online store, the store is unreadable, nothing was sent that the model knows, or what was met shares no"
            " word with other films."
        )
    )
    reason: str = Field(description="The reason as a sentence.")


class Provenance(BaseModel):
    """Where an answer came from."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE_PROVENANCE}, protected_namespaces=())

    model_version: str = Field(description="Version of the served bundle.")
    recommender: str = Field(
        description="Name of the bundle's model that made the answer unless a fallback did: the promoted one where no"
        " other was asked for."
    )
    data_snapshot: dict[str, Any] = Field(
        description=(
            "The data that the bundle was trained on: the edition, and the content version of each table; the published"
            " copy's `manifest.json` lists its tables with the same versions."
        )
    )
    feature_service: str | None = Field(description="The feature service that the bundle was trained with.")
    feature_hash: str | None = Field(description="Hash of that feature service's definition.")
    feature_timestamp: str | None = Field(
        description="Time of the user's features that were read from the online store, UTC; null where none were read."
    )
    missing_features: list[str] = Field(
        default_factory=list,
        description="The user's features that the online store has no value of; taken as unknown.",
    )
    app_ratings: int | None = Field(
        default=0,
        description="How many of the user's ratings in the app's store, of films that the model has, are part of this"
        " answer; null where that store could not be read in time, and the answer is without them.",
    )
    blend: float | None = Field(
        default=None,
        description="How much the content (the films' words) counted beside that model, above 0 to 1; null where it"
        " did not.",
    )
    experiment: str | None = Field(
        default=None, description="The experiment that dealt the user to a version; null outside of one."
    )
    arm: Literal["champion", "challenger"] | None = Field(
        default=None,
        description="Which version the user was dealt to, for ever: the promoted one, or the other.",
    )


class RecommendResponse(BaseModel):
    """Films for one user, best first."""

    user_id: int | None = Field(description="The user asked for; null for a history.")
    items: list[Item] = Field(description="Films that the user has not rated, best first.")
    empty: Literal["all_seen", "wishes"] | None = Field(
        default=None,
        description="Why there is no film: the user has met every one, or what was asked for leaves none.",
    )
    fallback: Fallback | None = Field(description="Null where the model itself answered.")
    provenance: Provenance


class SimilarResponse(BaseModel):
    """Films like one film, best first."""

    movie_id: int = Field(description="The film asked for.")
    items: list[Item] = Field(description="The most similar films, without the film itself.")
    index: IndexKind = Field(default="exact", description="How they were found.")
    by: Likeness = Field(default="behaviour", description="What makes them alike.")
    empty: Literal["no_words"] | None = Field(
        default=None, description="Why there is no film: none shares a word with this one."
    )
    fallback: Fallback | None = Field(description="Null where the model itself answered.")
    provenance: Provenance


class BatchResponse(BaseModel):
    """One answer a user, in the order in which they are first named."""

    answers: list[RecommendResponse]


class Named(BaseModel):
    """A film by name."""

    movie_id: int
    title: str
    year: int | None


class ForMovieResponse(RecommendResponse):
    """Films like one film, ordered for a user."""

    movie: Named = Field(description="The film that was meant.")
    other_matches: list[Named] = Field(
        description="Films that the title fits as well or nearly; the best known is taken."
    )


class Interval(BaseModel):
    """Two bounds of stars."""

    low: float = Field(ge=0.5, le=5)
    high: float = Field(ge=0.5, le=5)
    level: float = Field(description="How likely the rating is between them.", examples=[0.8])


class PredictRatingResponse(BaseModel):
    """The stars that a user is expected to give a film."""

    user_id: int = Field(description="The user asked for.")
    movie: Named
    predicted: float = Field(ge=0.5, le=5, description="The expected rating, 0.5 to 5; not rounded to half steps.")
    interval: Interval = Field(description="Where the rating will be, four times in five.")
    would_like: bool = Field(description="Whether 3.7 stars or more are expected.")
    chance: float = Field(ge=0, le=1, description="How likely 3.7 stars or more are.")
    own_rating: float | None = Field(
        description="What the user has given the film already, which is not looked at; null where he has not rated it."
    )
    ratings_used: int = Field(description="How many of the user's ratings the prediction is made of.")
    fallback: Fallback | None = Field(description="Set where no rating of the user is known.")
    provenance: Provenance


class ExplainResponse(BaseModel):
    """What speaks for a film, for one user."""

    user_id: int = Field(description="The user asked for.")
    movie: Named
    met: bool = Field(description="Whether the user has rated the film, so that it is not recommended.")
    dismissed: bool = Field(description="Whether the user has sent the film away, so that it is not recommended.")
    score: float = Field(description="As in `/recommend`.")
    rank: int | None = Field(
        description="The film's place among all that the user has neither met nor sent away; null for one of those."
    )
    source: ItemSource = Field(description="As in `/recommend`.")
    reason: Reason | None = Field(
        description="As in `/recommend`, with up to ten films and words; null where nothing that is known of the user"
        " raises the film's score, or the model's scores do not tell."
    )
    fallback: Fallback | None = Field(description="Null where the model itself answered.")
    provenance: Provenance
