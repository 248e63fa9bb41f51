"""What the catalogues of the streaming platforms say, as ``/v1/data`` shows it: the questions of the published copy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from bento.api.dependencies import Limit
from bento.catalog.streaming_queries import Answered, Catalogues

PlatformName = Literal["netflix", "amazon", "disney", "hulu"]
Platform = Annotated[PlatformName | None, Query(description="Of this platform alone.")]
Year = Annotated[int | None, Query(ge=1870, le=2120, description="Released in this year.")]
Kind = Annotated[Literal["movie", "tv show"] | None, Query(description="Films or series alone.")]
DurationType = Annotated[Literal["min", "season"] | None, Query(description="Measured in minutes or in seasons.")]
Score = Annotated[float | None, Query(ge=0, le=5, description="With a score above this one, in stars.")]
Film = Annotated[str, Query(min_length=1, max_length=200, description="A part of the title, whatever the case.")]


def _catalogues(request: Request) -> Catalogues:
    catalogues: Catalogues = request.app.state.catalogues
    return catalogues


Asked = Annotated[Catalogues, Depends(_catalogues)]


class _Rows(BaseModel):
    """An answer of the published copy."""

    publication: str | None = Field(description="The version of the publication that answered.")


class WatchableTitle(BaseModel):
    """A title of a platform that fits the film asked for."""

    platform: str
    title: str
    release_year: int
    type: str | None = Field(description="`movie` or `tv show`.")
    score: float | None = Field(description="0 to 5 stars.")
    score_source: str | None = Field(description="Whose score it is: the platform's users, or IMDb's votes halved.")
    movie_key: int | None = Field(description="The platform's key of the film that it was matched with.")
    match_confidence: float | None = Field(description="How sure that match is; an order, no probability.")
    title_id: str = Field(description="The platform's letter and its id of the title.")


class WhereToWatch(_Rows):
    """Where a film can be watched, the surest match first."""

    items: list[WatchableTitle]


class LongestTitle(BaseModel):
    """The longest title of a year, a platform and a kind of duration."""

    release_year: int
    platform: str
    duration_type: str
    duration: int
    title: str
    title_id: str


class LongestTitles(_Rows):
    """The longest titles."""

    items: list[LongestTitle]


class ScoreCount(BaseModel):
    """How many titles of a platform and a year have such a score."""

    platform: str
    release_year: int
    titles: int


class ScoreCounts(_Rows):
    """Numbers of titles by platform and year."""

    items: list[ScoreCount]


class PlatformCount(BaseModel):
    """How many titles a platform has."""

    platform: str
    titles: int


class PlatformCounts(_Rows):
    """Numbers of titles by platform."""

    items: list[PlatformCount]


class FrequentActor(BaseModel):
    """Who plays in the most titles of a platform and a year."""

    platform: str
    release_year: int
    actor: str
    titles: int


class FrequentActors(_Rows):
    """The most frequent actors."""

    items: list[FrequentActor]


def where_to_watch(asked: Asked, film: Film, year: Year = None, limit: Limit = 50) -> JSONResponse:
    """Where can I watch this film: titles of the platforms whose name, or whose film's name, holds what is asked."""
    return _sent(WhereToWatch, asked.ask("where_to_watch", {"film": film, "year": year}, limit))


def get_max_duration(
    asked: Asked, year: Year = None, platform: Platform = None, type: DurationType = None
) -> JSONResponse:
    """Return the longest title of each year, platform and kind of duration."""
    return _sent(LongestTitles, asked.ask("get_max_duration", {"year": year, "platform": platform, "type": type}))


def get_score_count(
    asked: Asked, score: Score = None, platform: Platform = None, year: Year = None, type: Kind = None
) -> JSONResponse:
    """How many titles have a score above x, by platform and year; without a score every title that has one counts."""
    filters = {"score": score, "platform": platform, "year": year, "type": type}
    return _sent(ScoreCounts, asked.ask("get_score_count", filters))


def get_count_platform(asked: Asked, platform: Platform = None, year: Year = None, type: Kind = None) -> JSONResponse:
    """How many titles each platform has."""
    return _sent(PlatformCounts, asked.ask("get_count_platform", {"platform": platform, "year": year, "type": type}))


def get_actor(asked: Asked, platform: Platform = None, year: Year = None) -> JSONResponse:
    """Return the most frequent actor of each platform and year."""
    return _sent(FrequentActors, asked.ask("get_actor", {"platform": platform, "year": year}))


def _sent(kind: type[_Rows], answered: Answered) -> JSONResponse:
    told: dict[str, Any] = {"publication": answered.publication, "items": answered.rows}
    return JSONResponse(kind.model_validate(told).model_dump(mode="json"))
