"""From a request to its answer, over one loaded bundle: plain functions that know neither HTTP nor BentoML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bento.bundles.loaded_bundle import Served
from bento.errors import RequestRefused
from bento.features.online_store import UserFeatures
from bento.recommendation.blending import Blend
from bento.recommendation.compute_pool import check_wanted
from bento.recommendation.explanations import reasons_told
from bento.recommendation.filtering import allowed_films, best_of, choose, genre_columns
from bento.recommendation.scoring import Person, Scored, scored_for
from bento.recommendation.scoring_plan import Way, scored_by, way_of
from bento.recommendation.shipped_models import CONTENT
from bento.recommendation.similar_items import likeness_by, way_of_likeness
from bento.schemas.recommendations import (
    BatchRequest,
    BatchResponse,
    ColdStartRequest,
    ForMovieRequest,
    ForMovieResponse,
    ItemSource,
    Likeness,
    Met,
    Named,
    Provenance,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
    Wishes,
)
from bento.store.user_state import NOBODY, AppHistory
from models.base import mask_seen, top_k
from models.serving.ann_index import IndexMissing
from models.serving.bundle import Bundle

#: Users of a batch whose scores are made in one go, and so the most that is computed for a caller who is gone.
_USERS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for films, and what the app's store said of its user; None where it could not be read."""

    request: RecommendRequest
    app: AppHistory | None = NOBODY


def recommend(served: Served, request: RecommendRequest, app: AppHistory | None = NOBODY) -> RecommendResponse:
    """Answer one request as ``recommend_each`` does; raise ``RequestRefused`` if it is refused."""
    [answer] = recommend_each(served, [Asked(request, app)])
    if isinstance(answer, RequestRefused):
        raise answer
    return answer


def recommend_each(
    served: Served, asked: Sequence[Asked], *, reasons: bool = True
) -> list[RecommendResponse | RequestRefused]:
    """Return the best movies for each user that they have neither rated nor dismissed, or why the request is refused.

    What a user did in the app counts at once: in the history of a model that reads it, else as similarity to what they
    rated. Where neither can answer, the movies are popular ones, with the reason.
    """
    ways: dict[int, Way] = {}
    answers: dict[int, RecommendResponse | RequestRefused] = {}
    check_wanted()
    for place, one in enumerate(asked):
        try:
            ways[place] = way_of(served.bundle, one.request.model, one.request.blend)
        except RequestRefused as refused:
            answers[place] = refused
    people = [
        Person(asked[place].request.user_id, asked[place].request.history or (), asked[place].app) for place in ways
    ]
    for place, scored in zip(ways, scored_by(served, people, list(ways.values())), strict=True):
        check_wanted()
        try:
            answers[place] = _best_of(served, asked[place], scored, reasons)
        except RequestRefused as refused:
            answers[place] = refused
    return [answers[place] for place in range(len(asked))]


def _best_of(served: Served, asked: Asked, scored: Scored, with_reasons: bool) -> RecommendResponse:
    request = asked.request
    scores = scored.scores.copy() if request.include_seen else mask_seen(scored.scores, scored.taste.history)
    scores[0, scored.taste.dismissed] = -np.inf
    found, best, empty = _narrowed(served, scores, request)
    shown = found[found >= 0]
    reasons = reasons_told(served, scored, shown) if with_reasons else None
    return RecommendResponse.model_validate(
        {
            "user_id": request.user_id,
            "items": _items(served, found, best, scored.sources(shown), reasons),
            "empty": empty,
            "fallback": scored.fallback,
            "provenance": provenance_of(
                served.bundle,
                scored.features,
                None if asked.app is None else len(scored.taste.fresh),
                scored.recommender.name,
                scored.weight,
            ),
        }
    )


def _narrowed(
    served: Served, scores: NDArray[np.float32], wishes: Wishes
) -> tuple[NDArray[np.int64], NDArray[np.float32], Literal["all_seen", "wishes"] | None]:
    """Return the best of ``scores`` float32[1, n_items] (-inf: seen) that fit, as a row, and why if there are none."""
    allowed = allowed_films(served.facts, served.catalogue, wishes)
    was_left = bool(np.isfinite(scores).any())
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    found, best = choose(served.facts, scores, wishes.k, wishes.diversity)
    return found[0], best[0], ("wishes" if was_left else "all_seen") if found[0, 0] < 0 else None


def similar(served: Served, request: SimilarRequest) -> SimilarResponse:
    """Return the movies most similar to one.

    Raises ``RequestRefused``: 404 for a movie that the bundle does not have, 400 for a model or an index that it lacks.
    """
    bundle = served.bundle
    item = bundle.item_index.get(request.movie_id)
    if item is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            f"Movie {request.movie_id} is not among the {len(bundle.items)} films of the served model.",
            "Use a movieId of the edition the model was trained on; a film without ratings at that time is not in it.",
        )
    if request.index == "exact":
        way = way_of_likeness(bundle, request.by, request.model)
        like = likeness_by(served, way, item)
        by: Likeness = CONTENT if way.model.name == CONTENT else request.by
        # A film that shares no word is not alike, wherever it stands in the catalogue.
        likeness = np.where(like.scores > 0, like.scores, -np.inf) if by == CONTENT else like.scores.copy()
        likeness[item] = -np.inf
        rows, best = best_of(likeness[None].astype(np.float32), request.k)
        found, scores = rows[0], best[0]
        model, blend, sources = way.model.name, way.weight, like.sources(found[found >= 0])
    else:
        try:
            if request.by != "behaviour" or request.model not in (None, bundle.recommender.name):
                raise IndexMissing("indexes are made of the promoted model's vectors alone")
            found, scores = served.indexes.search(request.index, item, request.k)
        except IndexMissing as missing:
            raise RequestRefused(
                HTTPStatus.BAD_REQUEST,
                f"There is no index {request.index} over the served films: {missing}.",
                "Ask with `index` exact, which is always there.",
            ) from missing
        by, model, blend = "behaviour", bundle.recommender.name, None
        sources = ["collaborative"] * len(found)
    return SimilarResponse.model_validate(
        {
            "movie_id": request.movie_id,
            "items": _items(served, found, scores, sources),
            "index": request.index,
            "by": by,
            "empty": "no_words" if by == "content" and not sources else None,
            "fallback": None,
            "provenance": provenance_of(bundle, None, 0, model, blend),
        }
    )


def _items(
    served: Served,
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
    sources: Sequence[ItemSource],
    reasons: Sequence[dict[str, object] | None] | None = None,
) -> list[dict[str, object]]:
    """Return the movies of a row of ``recommend`` or ``similar``, without padding, as arguments of an ``Item``.

    The answer validates them as a whole, which takes 1 microsecond an item; making each ``Item`` alone takes 3 to 5.
    """
    count = int((found >= 0).sum())
    told = [None] * count if reasons is None else reasons
    rows = enumerate(zip(found[:count].tolist(), scores[:count].tolist(), sources, told, strict=True), start=1)
    return [
        {**served.catalogue.cards[item], "rank": rank, "score": score, "source": given, "reason": reason}
        for rank, (item, score, given, reason) in rows
    ]


def provenance_of(
    bundle: Bundle,
    features: UserFeatures | None,
    app_ratings: int | None,
    model: str | None = None,
    blend: float | None = None,
) -> Provenance:
    """Where an answer of this bundle came from: of its ``model``, by default the promoted one, and a blend."""
    found = features is not None and features.found
    return Provenance(
        model_version=bundle.version,
        recommender=model or bundle.recommender.name,
        blend=blend,
        data_snapshot=dict(bundle.manifest["data_snapshot"]),
        feature_service=bundle.features.service or None,
        feature_hash=bundle.features.service_hash or None,
        feature_timestamp=_utc(features.timestamp) if features is not None else None,
        missing_features=list(features.missing) if features is not None and found else [],
        app_ratings=app_ratings,
    )


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def recommend_batch(served: Served, request: BatchRequest, apps: Sequence[AppHistory] | None) -> BatchResponse:
    """One answer a user, in their order, each as ``recommend`` gives it; ``RequestRefused`` as there.

    ``apps`` goes with the users, None where the app's store could not be read.
    """
    wishes = request.model_dump(exclude={"user_ids", "reasons"})
    told: Sequence[AppHistory | None] = [None] * len(request.user_ids) if apps is None else apps
    asked = [
        Asked(RecommendRequest.model_validate({**wishes, "user_id": user}), app)
        for user, app in zip(request.user_ids, told, strict=True)
    ]
    answers = []
    for start in range(0, len(asked), _USERS_AT_ONCE):
        for answer in recommend_each(served, asked[start : start + _USERS_AT_ONCE], reasons=request.reasons):
            if isinstance(answer, RequestRefused):
                raise answer
            answers.append(answer)
    return BatchResponse.model_construct(answers=answers)


def recommend_for_movie(served: Served, request: ForMovieRequest, app: AppHistory | None) -> ForMovieResponse:
    """Films like one film, ordered for a user: the likeness and what is expected of him count alike.

    Both are of the model that is asked for, with the content beside it as asked. ``RequestRefused``: 404 for a film
    that the model does not have, or a title that fits none, 400 for a model that the bundle does not ship.
    """
    item, others = _meant(served, request)
    way = way_of(served.bundle, request.model, request.blend)
    [scored] = scored_by(served, [Person(request.user_id, app=app)], [way])
    taste, like = scored.taste, likeness_by(served, way, item)
    likeness = like.scores[None].copy()
    likeness[0, item] = -np.inf
    if not request.include_seen:
        likeness = mask_seen(likeness, taste.history)
    likeness[0, taste.dismissed] = -np.inf
    pool = _candidates(served, likeness, request)
    both = [_parts(like.scores, like.blend, pool), _parts(_expected(scored), scored.blend, pool)]
    scores = np.full_like(likeness, -np.inf)
    scores[0, pool] = sum(whole for whole, _ in both)
    from_content = np.zeros(len(like.scores), dtype=bool)
    if like.blend is not None:
        from_content[pool] = sum(2 * content - whole for whole, content in both) > 0
    found, best, _ = _narrowed(served, scores, request)
    items = found[found >= 0]
    return ForMovieResponse.model_validate(
        {
            "user_id": request.user_id,
            "items": _items(
                served,
                found,
                best,
                [like.source(given) for given in from_content[items].tolist()],
                reasons_told(served, scored, items),
            ),
            "empty": None if found[0] >= 0 else "wishes",
            "fallback": scored.fallback,
            "provenance": provenance_of(
                served.bundle, scored.features, None if app is None else len(taste.fresh), way.model.name, way.weight
            ),
            "movie": named(served, item),
            "other_matches": [named(served, other) for other in others],
        }
    )


def cold_start(served: Served, request: ColdStartRequest) -> RecommendResponse:
    """Films for somebody of whom only preferred genres, and perhaps some liked films, are known.

    What is liked is a history of five stars; without it, popularity. Films of preferred genres come before all others,
    and among them the share of a film's genres that is preferred weighs as much as a standard deviation of the scores.
    """
    scored = scored_for(served, Person(None, [Met(movie_id=movie) for movie in request.liked]))
    scores = _standard(_expected(scored))[None]
    preferred = served.facts.genres[:, genre_columns(served.facts, request.genres)].sum(axis=1)
    share = preferred / np.maximum(served.facts.genres.sum(axis=1), 1)
    # More than scores differ by, so that it is an order of its own.
    scores = scores + (share + 100 * (preferred > 0))[None].astype(np.float32)
    scores = mask_seen(scores, scored.taste.history)
    # Preferred is not demanded: the genres order the films, and are no filter.
    found, best, empty = _narrowed(served, scores, request.model_copy(update={"genres": []}))
    return RecommendResponse.model_validate(
        {
            "user_id": None,
            "items": _items(
                served, found, best, scored.sources(found[found >= 0]), reasons_told(served, scored, found[found >= 0])
            ),
            "empty": empty,
            "fallback": scored.fallback,
            "provenance": provenance_of(served.bundle, None, len(scored.taste.fresh)),
        }
    )


def _meant(served: Served, request: ForMovieRequest) -> tuple[int, list[int]]:
    """Return the movie that a request names, and the others that its title fits about as well, the best known first."""
    if request.title is None:
        return film_named(served, request.movie_id), []
    fits = served.catalogue.titles.search(request.title, 10)
    if not fits:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND, "No film of the served model has a title like that.", "Try /v1/films/search."
        )
    alike = [item for item, fit in fits if fit >= fits[0][1] - 0.02]
    alike.sort(key=lambda item: (-int(served.facts.votes[item]), item))
    return alike[0], alike[1:]


def film_named(served: Served, movie_id: int | None) -> int:
    """Return the index of a movie; raise ``RequestRefused`` (404) for an id that the bundle does not have."""
    item = None if movie_id is None else served.bundle.item_index.get(movie_id)
    if item is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            f"Movie {movie_id} is not among the {len(served.bundle.items)} films of the served model.",
            "Find it with /v1/films/search.",
        )
    return item


def named(served: Served, item: int) -> Named:
    """Return the id, title and year of a movie."""
    card = served.catalogue.cards[item]
    return Named(movie_id=card["movie_id"], title=card["title"], year=card["year"])


def _candidates(served: Served, likeness: NDArray[np.float32], request: ForMovieRequest) -> NDArray[np.int64]:
    """Return the movies most similar to one that may be shown: three times as many as are wanted, at least 60."""
    allowed = allowed_films(served.facts, served.catalogue, request)
    if allowed is not None:
        likeness = np.where(allowed[None], likeness, -np.inf).astype(np.float32)
    found, _ = top_k(likeness, max(3 * request.k, 60))
    return found[0][found[0] >= 0]


def _expected(scored: Scored) -> NDArray[np.float32]:
    """float32[n_items]: the scores, on a scale on which they can be added to others."""
    counts = scored.source == "popular" and scored.blend is None
    return np.asarray(np.log1p(scored.scores[0]) if counts else scored.scores[0], dtype=np.float32)


def _parts(
    scores: NDArray[np.float32], blend: Blend | None, pool: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """float32[len(pool)] twice: scores in deviations over the pool, and what the content beside them is in that."""
    whole = _standard(scores[pool])
    if blend is None or not len(pool):
        return whole, np.zeros_like(whole)
    content = blend.content[pool] - blend.content[pool].mean()
    return whole, np.asarray(content / max(float(scores[pool].std()), 1e-9), dtype=np.float32)


def _standard(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores around 0 in standard deviations, so that two kinds of them can be added."""
    if not len(scores):
        return scores
    return np.asarray((scores - scores.mean()) / max(float(scores.std()), 1e-9), dtype=np.float32)
