"""The bodies of the resources under ``/v1``, one class a body or a part of one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic.config import JsonDict

#: No control characters: they are no part of a name, and PostgreSQL refuses some.
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Stars = Annotated[float, Field(ge=0.5, le=5, multiple_of=0.5, description="0.5 to 5 in half steps.", examples=[4.5])]
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


def _with_example(example: JsonDict, extra: Literal["forbid", "ignore"] = "ignore") -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": example}, extra=extra)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UserBody(_Body):
    """What a user says of himself."""

    model_config = _with_example({"name": "Ann"}, extra="forbid")

    name: Name | None = Field(default=None, description="What the user is called.", examples=["Ann"])


class User(BaseModel):
    """One user: of the app, or of the served edition."""

    model_config = _with_example(
        {
            "user_id": 1_000_000_001,
            "source": "app",
            "name": "Ann",
            "created_at": "2024-05-01T18:15:00Z",
            "updated_at": "2024-05-01T18:15:00Z",
        }
    )

    user_id: int = Field(description="The id, as in `/recommend`.", examples=[1_000_000_001])
    source: str = Field(description="`app`, or the edition that knows the user.", examples=["app"])
    name: str | None = Field(description="What the user is called.")
    created_at: datetime | None = Field(description="Since when the app knows the user; null where it never wrote.")
    updated_at: datetime | None = Field(description="Time of the last change, UTC.")


class RatingBody(_Body):
    """A rating of the film that the path names."""

    model_config = _with_example({"rating": 4.5, "rated_at": "2024-05-01T20:15:00+02:00"}, extra="forbid")

    rating: Stars
    rated_at: AwareDatetime | None = Field(default=None, description="When, with a time zone; now if not given.")


class NewRating(RatingBody):
    """A rating with its film."""

    model_config = _with_example(
        {"movie_id": 1, "rating": 4.5, "rated_at": "2024-05-01T20:15:00+02:00"}, extra="forbid"
    )

    movie_id: Id = Field(description="The edition's own id of the film.", examples=[1])


class Rating(BaseModel):
    """The rating that a user gives a film now."""

    model_config = _with_example(
        {
            "user_id": 1_000_000_001,
            "movie_id": 1,
            "movie_key": 7,
            "title": "Toy Story",
            "rating": 4.5,
            "rated_at": "2024-05-01T18:15:00Z",
            "created_at": "2024-05-01T18:15:00Z",
            "updated_at": "2024-05-01T18:15:00Z",
        }
    )

    user_id: int
    movie_id: int = Field(description="The edition's own id of the film.")
    movie_key: int = Field(description="The platform's key of the film.")
    title: str | None = Field(description="Null where the served edition does not have the film.")
    rating: float = Field(description="0.5 to 5 in half steps.")
    rated_at: datetime
    created_at: datetime
    updated_at: datetime


class RatingPage(BaseModel):
    """Some ratings, the last written first."""

    items: list[Rating]
    next_cursor: str | None = Field(description="For the next page; null where this is the last.")


class Film(BaseModel):
    """One film that the served model knows."""

    movie_id: int = Field(description="The edition's own id of the film.", examples=[1])
    movie_key: int = Field(description="The platform's key of the film.", examples=[7])
    imdb_id: str | None = Field(
        description="IMDb's id of the title, null where the film has no match there.", examples=["tt0114709"]
    )
    title: str = Field(description="Title without the year, with its article in front.", examples=["Toy Story"])
    year: int | None = Field(examples=[1995])
    genres: list[str] = Field(examples=[["Animation", "Comedy"]])
    link: str | None = Field(description="A page about the film.", examples=["https://www.imdb.com/title/tt0114709/"])
    link_kind: str | None = Field(examples=["imdb_title"])
    rating_count: int = Field(description="Ratings that the served model was trained on.", examples=[215])


class FilmPage(BaseModel):
    """Some films by their ids."""

    items: list[Film]
    total: int = Field(description="How many films there are in all.")
    next_cursor: str | None = Field(description="For the next page; null where this is the last.")


class ListedFilm(Film):
    """A film with how it is liked."""

    rating_mean: float = Field(description="Mean of its ratings.")
    weighted_rating: float = Field(description="The same, drawn to the mean of all films where its ratings are few.")


class ListProvenance(BaseModel):
    """Where a list came from."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    data_snapshot: dict[str, Any]


class ListedFilms(BaseModel):
    """Films in the order of the list."""

    items: list[ListedFilm]
    provenance: ListProvenance


class MapPoint(BaseModel):
    """A film and where it lies."""

    movie_id: int = Field(description="The edition's own id of the film.", examples=[1])
    title: str = Field(description="Title without the year, with its article in front.")
    year: int | None
    genres: list[str]
    rating_count: int = Field(description="Ratings that the served model was trained on.")
    x: float | None = Field(description="-1 to 1; null for a film that came after the map.")
    y: float | None


class MapNeighbour(MapPoint):
    """A film that is like the marked one."""

    score: float = Field(description="How like it is; comparable within one answer.")


class MapMark(MapPoint):
    """The film that was asked for, with those most like it."""

    neighbours: list[MapNeighbour]


class FilmMap(BaseModel):
    """Some films with their places, the most rated first."""

    items: list[MapPoint]
    total: int = Field(description="How many films have a place and fit what was asked for.")
    next_cursor: str | None = Field(description="For the next page; null where this is the last.")
    marked: MapMark | None = Field(description="The film of `movie_id`; null where none was named.")
    provenance: ListProvenance


class FoundFilm(Film):
    """A film that fits a search."""

    fit: float = Field(description="How well the title fits; 1 is letter by letter.")


class FoundFilms(BaseModel):
    """The films that fit, best first."""

    items: list[FoundFilm]


class RatedFilm(Film):
    """A film with the rating that a user gave it, wherever he gave it."""

    rating: float
    source: Literal["app", "edition"] = Field(description="Whether the rating came through the app or the edition.")


class RatedFilmPage(BaseModel):
    """Some films that a user has rated, by their ids."""

    items: list[RatedFilm]
    next_cursor: str | None = Field(description="For the next page; null where this is the last.")


class Person(BaseModel):
    """Somebody who made films that the served model knows."""

    person_id: str = Field(description="IMDb's id of the person.", examples=["nm0000233"])
    name: str
    birth_year: int | None
    death_year: int | None
    film_count: int = Field(description="How many of the films he had a part in.")
    categories: list[str] = Field(description="What he did in them.", examples=[["director", "writer"]])


class PeoplePage(BaseModel):
    """Some people by their ids."""

    items: list[Person]
    total: int = Field(description="How many people there are in all.")
    next_cursor: str | None = Field(description="For the next page; null where this is the last.")


class FoundPerson(Person):
    """A person who fits a search."""

    fit: float = Field(description="How well the name fits; 1 is letter by letter.")


class FoundPeople(BaseModel):
    """The people who fit, best first."""

    items: list[FoundPerson]


class MadeFilm(Film):
    """A film with what a person did in it."""

    did: list[str] = Field(examples=[["director"]])


class PersonWithFilms(Person):
    """A person with his films, the newest first."""

    films: list[MadeFilm]


class EventBody(_Body):
    """Something that the app saw happen between a user and a film."""

    model_config = _with_example(
        {"user_id": 1, "movie_id": 1, "kind": "clicked", "happened_at": "2024-05-01T20:15:00+02:00"}, extra="forbid"
    )

    user_id: Id = Field(examples=[1])
    movie_id: Id = Field(examples=[1])
    kind: Literal["shown", "viewed", "clicked", "dismissed", "watchlisted"] = Field(
        description="A dismissed film is not recommended to the user again."
    )
    happened_at: AwareDatetime | None = Field(default=None, description="When, with a time zone; now if not given.")


class Event(BaseModel):
    """An event as it stands in the log."""

    model_config = _with_example(
        {"event_id": 41, "user_id": 1, "movie_id": 1, "kind": "clicked", "happened_at": "2024-05-01T18:15:00Z"}
    )

    event_id: int
    user_id: int
    movie_id: int
    kind: str
    happened_at: datetime


class LoginBody(_Body):
    """Whose key it is, and the key."""

    model_config = _with_example({"user_id": 1, "key": "mq_0123456789abcdef_as-it-was-shown-once"}, extra="forbid")

    user_id: Id | None = Field(default=None, description="Whose key it is; null for an app's or an admin's.")
    key: SecretStr = Field(min_length=1, max_length=200, description="The key, as it was shown when it was made.")


class RefreshBody(_Body):
    """What a login is refreshed with."""

    model_config = _with_example(
        {"refresh_token": "0123456789abcdef0123456789abcdef.of-the-last-answer"}, extra="forbid"
    )

    refresh_token: SecretStr = Field(min_length=1, max_length=200, description="`refresh_token` of the last answer.")


class Login(BaseModel):
    """A token to send with every request, and how to get the next one."""

    model_config = _with_example(
        {
            "access_token": "eyJhbGciOiJIUzI1NiJ9.e30.signature",
            "token_type": "Bearer",
            "expires_in": 600,
            "refresh_token": "0123456789abcdef0123456789abcdef.for-once",
            "role": "user",
        }
    )

    access_token: str = Field(description="For `Authorization: Bearer`.")
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds that the token holds.", examples=[600])
    refresh_token: str = Field(description="For `/refresh`, once; seven days.")
    role: Literal["user", "app", "admin"]


class KeyBody(_Body):
    """What a new key is for."""

    model_config = _with_example({"label": "Ann's phone"}, extra="forbid")

    label: Name | None = Field(default=None, description="What the key is for.", examples=["Ann's phone"])


class Key(BaseModel):
    """A key to log in with."""

    key_id: str
    label: str | None
    created_at: datetime


class NewKey(Key):
    """A key to log in with, and its text."""

    key: str = Field(description="The text, for `/login`; it is shown this once.")


class Keys(BaseModel):
    """All keys of a user, the oldest first."""

    items: list[Key]
