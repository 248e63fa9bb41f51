"""From a request to its answer, over one loaded bundle: plain functions that know neither HTTP nor BentoML."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from bento.catalogue import Catalogue
from bento.choosing import allowed_films, choose, genre_columns
from bento.errors import FeatureStoreUnavailable, RequestRefused
from bento.facts import FilmFacts
from bento.features import UserFeatures
from bento.makers import Makers
from bento.schemas import (
    BatchRequest,
    BatchResponse,
    ColdStartRequest,
    Fallback,
    ForMovieRequest,
    ForMovieResponse,
    Met,
    Named,
    Provenance,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
    Wishes,
)
from bento.store.history import NOBODY, AppHistory
from bento.store.tables import FIRST_APP_USER_ID
from models.bundle import Bundle
from models.item_index import IndexMissing, ItemIndexes
from models.reasons import FILMS, WORDS, Reason, reasons_for, reasons_of, text_of
from models.recommender import Recommender, UnknownUser, UserBatch, mask_seen, top_k
from models.served_forms import KnowsLikeness

logger = logging.getLogger("marquee.answers")

Source = Literal["collaborative", "popular", "similar"]

#: How many of a user's newest ratings in the app the likeness is taken from: a row of scores each.
_FRESH = 200
#: How far they move the scores of a model that does not read the history, in standard deviations of those scores.
_NUDGE = 0.5


class FeatureReader(Protocol):
    """Whoever knows a user's features now."""

    def read(self, user_key: int) -> UserFeatures:
        """The features, or ``FeatureStoreUnavailable``."""
        ...

    def read_many(self, user_keys: Sequence[int]) -> list[UserFeatures]:
        """The features of each, or ``FeatureStoreUnavailable``."""
        ...

    def forget(self, user_key: int, now: datetime) -> None:
        """Have no features of a user any more, or ``FeatureStoreUnavailable``."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle with its features' reader, and its films as Python values, which one request reads a few of."""

    bundle: Bundle
    features: FeatureReader | None
    catalogue: Catalogue
    facts: FilmFacts
    makers: Makers
    user_keys: NDArray[np.int64]
    indexes: ItemIndexes

    @classmethod
    def of(cls, bundle: Bundle, features: FeatureReader | None) -> Served:
        """Prepare a bundle; ``features`` may be None only where its recommender uses none."""
        keys = bundle.users["user_key"].to_numpy().astype(np.int64)
        catalogue = Catalogue.of(bundle)
        makers = Makers.of(bundle.credits, catalogue.by_key)
        return cls(bundle, features, catalogue, FilmFacts.of(bundle), makers, keys, ItemIndexes(bundle.recommender))


@dataclass(frozen=True, slots=True)
class Taste:
    """What one user has met: the bundle's history with the app's ratings folded in, as one row.

    ``user`` is the bundle's index, -1 for who is not in it; ``times`` int64[nnz] goes with ``history.data`` and says
    what came after what: the app's ratings after all others, a second apart. ``fresh`` and ``fresh_stars`` are the
    films that he rated in the app and the model has, the last written last; ``dismissed`` those he sent away.
    """

    user: int
    history: csr_array
    times: NDArray[np.int64]
    fresh: NDArray[np.int64]
    fresh_stars: NDArray[np.float32]
    dismissed: NDArray[np.int64]


def taste_of(served: Served, user_id: int, app: AppHistory = NOBODY) -> Taste:
    """Fold what the app's store says of a user into what the bundle knows; a later rating stands for the one before."""
    bundle, place = served.bundle, served.catalogue.by_key
    user = -1 if app.forgotten else bundle.user_index.get(user_id, -1)
    known = slice(int(bundle.history.indptr[user]), int(bundle.history.indptr[user + 1])) if user >= 0 else slice(0, 0)
    told = [(place[key], stars) for key, stars in app.ratings if key in place]
    fresh = np.array([item for item, _ in told], dtype=np.int64)
    fresh_stars = np.array([stars for _, stars in told], dtype=np.float32)
    old = np.asarray(bundle.history.indices[known], dtype=np.int64)
    # Of the app's own people its store knows all: what is not there was taken back after the training.
    stays = ~np.isin(old, fresh) & (not app.known or user_id < FIRST_APP_USER_ID)
    items = np.concatenate([old[stays], fresh])
    stars = np.concatenate([bundle.history.data[known][stays], fresh_stars]).astype(np.float32)
    old_times = bundle.history_times[known][stays]
    times = np.concatenate([old_times, old_times.max(initial=0) + 1 + np.arange(len(fresh))])
    order = np.argsort(items)
    return Taste(
        user,
        csr_array((stars[order], items[order], np.array([0, len(items)])), shape=(1, len(bundle.items))),
        times[order],
        fresh,
        fresh_stars,
        np.array([place[key] for key in app.dismissed if key in place], dtype=np.int64),
    )


def taste_from(served: Served, history: Sequence[Met]) -> Taste:
    """The taste of somebody who is no user, from what he sends along; of a film that comes twice the last counts.

    The films are taken to be in the order in which he met them.
    """
    met = {
        served.bundle.item_index[film.movie_id]: film.rating
        for film in history
        if film.movie_id in served.bundle.item_index
    }
    items, stars = np.array(list(met), dtype=np.int64), np.array(list(met.values()), dtype=np.float32)
    order = np.argsort(items)
    row = csr_array((stars[order], items[order], np.array([0, len(items)])), shape=(1, len(served.bundle.items)))
    return Taste(-1, row, order.astype(np.int64), items, stars, np.empty(0, dtype=np.int64))


def recommend(served: Served, request: RecommendRequest, app: AppHistory | None = NOBODY) -> RecommendResponse:
    """The best films for a user that he has neither rated nor dismissed.

    What he did in the app counts at once: in the history of a model that reads it, else as likeness to what he rated.
    Popular films, and why, where neither can answer. ``app`` is None where the app's store could not be read.
    """
    scored = scored_for(served, request.user_id, request.history or (), app)
    scores = scored.scores.copy() if request.include_seen else mask_seen(scored.scores, scored.taste.history)
    scores[0, scored.taste.dismissed] = -np.inf
    found, best, empty = _narrowed(served, scores, request)
    reasons = reasons_told(served, scored, found[0][found[0] >= 0])
    return RecommendResponse.model_validate(
        {
            "user_id": request.user_id,
            "items": _items(served, found[0], best[0], scored.source, reasons),
            "empty": empty[0],
            "fallback": scored.fallback,
            "provenance": provenance_of(
                served.bundle, scored.features, None if app is None else len(scored.taste.fresh)
            ),
        }
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """What somebody is expected to like: ``scores`` float32[1, n_items], those of films he has met too.

    ``source`` and ``fallback`` say what gave them, ``batch`` is what it was asked with, ``features`` what was read.
    """

    taste: Taste
    batch: UserBatch
    scores: NDArray[np.float32]
    source: Source
    features: UserFeatures | None
    fallback: Fallback | None


def scored_for(served: Served, user_id: int | None, history: Sequence[Met], app: AppHistory | None = NOBODY) -> Scored:
    """The scores of a user, or where that is None of who has met ``history``; likeness or popularity where need be."""
    bundle = served.bundle
    if user_id is None:
        taste, whom = taste_from(served, history), "Who sent this history"
    else:
        taste, whom = taste_of(served, user_id, app or NOBODY), f"User {user_id}"
    fallback: Fallback | None = None
    features: UserFeatures | None = None
    if user_id is None and not len(taste.fresh):
        fallback = _popular("no_history", "No film of the history is among those of the served model.")
    elif taste.user < 0 and not len(taste.fresh):
        fallback = _popular(
            "unknown_user",
            f"User {user_id} is not among the {len(bundle.users)} users that the served model was trained on.",
        )
    elif taste.user >= 0 and served.features is not None:
        try:
            features = served.features.read(int(served.user_keys[taste.user]))
        except FeatureStoreUnavailable as error:
            # The error names files and addresses: for the operator's log, not for the caller.
            logger.warning("%s", error)
            fallback = _popular("feature_store_unavailable", "The online feature store could not be read.")
        else:
            if not features.found:
                fallback = _popular("no_features", f"User {user_id} has no features in the online feature store.")
    values = features.values[None] if features is not None and features.found else None
    batch = UserBatch(np.array([taste.user]), taste.history, values, bundle.item_features, taste.times)
    source: Source = "popular" if bundle.recommender.name == "popularity" else "collaborative"
    if fallback is None:
        try:
            scores = _model_scores(bundle.recommender, batch, taste)
        except UnknownUser:
            scores, source = _likeness(bundle.recommender, taste), "similar"
            fallback = Fallback(
                used="likeness",
                cause="new_user",
                reason=f"{whom} is not yet among the users that the served model was trained on. These"
                " are films like those that he rated well.",
            )
    else:
        scores, source = bundle.popularity.score(batch), "popular"
    return Scored(taste, batch, np.asarray(scores, dtype=np.float32), source, features, fallback)


def _narrowed(
    served: Served, scores: NDArray[np.float32], wishes: Wishes
) -> tuple[NDArray[np.int64], NDArray[np.float32], list[Literal["all_seen", "wishes"] | None]]:
    """What is shown of each row of scores (-inf: seen), and for each row without a film why there is none."""
    allowed = allowed_films(served.facts, served.catalogue, wishes)
    was_left = [bool(np.isfinite(row).any()) for row in scores]
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    found, best = choose(served.facts, scores, wishes.k, wishes.diversity)
    rows = zip(was_left, (found[:, 0] < 0).tolist(), strict=True)
    return found, best, [("wishes" if left else "all_seen") if none else None for left, none in rows]


def _model_scores(recommender: Recommender, batch: UserBatch, taste: Taste) -> NDArray[np.float32]:
    """The model's scores; one that does not read the history is moved towards what the app's ratings are like."""
    return _moved(recommender, recommender.score(batch), taste)


def _moved(recommender: Recommender, scores: NDArray[np.float32], taste: Taste) -> NDArray[np.float32]:
    if recommender.uses_history or recommender.name == "popularity" or not len(taste.fresh):
        return scores
    spread = np.float32(_NUDGE) * scores.std()
    return np.asarray(scores + spread * _likeness(recommender, taste), dtype=np.float32)


def _likeness(recommender: Recommender, taste: Taste) -> NDArray[np.float32]:
    """float32[1, n_items]: how like each film is to those that the user rated well in the app, and unlike the others.

    Between -1 and 1, whatever the model's scale of likeness.
    """
    scores = _taste(taste) @ recommender.similarities(taste.fresh[-_FRESH:])
    return np.asarray(scores / max(float(np.abs(scores).max()), 1e-9), dtype=np.float32)[None]


def _taste(taste: Taste) -> NDArray[np.float32]:
    """What each of the user's newest ratings in the app says of taste: above 0 for a film that he liked.

    Counted from halfway between the middle of the scale and what people mostly give, so that no rating weighs nothing.
    """
    return (taste.fresh_stars[-_FRESH:] - np.float32(3.25)) / np.float32(2.75)


def reasons_told(
    served: Served,
    scored: Scored,
    items: NDArray[np.int64],
    films: int = FILMS,
    words: int = WORDS,
    *,
    always: bool = True,
) -> list[dict[str, object] | None]:
    """Why each of ``items`` int64[k] has its score, as arguments of a ``Reason``.

    At most so many films and words are named. Where nothing of the user speaks for a film, its reason is how many
    users rated it, or with ``always`` off None.
    """
    recommender, taste = served.bundle.recommender, scored.taste
    if scored.source == "popular":
        return [_rated_by(count) for count in scored.scores[0, items].tolist()]
    if scored.source == "collaborative" and recommender.uses_history:
        reasons = reasons_for(recommender, scored.batch, items, films, words)
    elif scored.source == "similar":
        # What made the scores is the likeness to the ratings in the app, each of which is a summand. That a film is
        # unlike what he did not like raises it too, and would be no reason that anybody understands.
        likeness = recommender.similarities(taste.fresh[-_FRESH:])[:, items]
        reasons = reasons_of(taste.fresh[-_FRESH:], np.maximum(_taste(taste), 0) * likeness.T, None, films, words)
    else:
        met = np.asarray(taste.history.indices, dtype=np.int64)
        reasons = reasons_of(met, _liked(taste) * _likeness_to(recommender, met, items), None, films, words)
    cards = served.catalogue.cards
    told = [_reason(reason, cards) for reason in reasons]
    if not always:
        return told
    votes = served.facts.votes
    return [_rated_by(int(votes[item])) if one is None else one for item, one in zip(items, told, strict=True)]


def _rated_by(count: float) -> dict[str, object]:
    return {"text": f"Rated by {count:.0f} users.", "films": [], "words": []}


def _liked(taste: Taste) -> NDArray[np.float32]:
    """float32[h]: how far above the middle each film of the history was rated; by who is strict, above his own."""
    stars = np.asarray(taste.history.data, dtype=np.float32)
    middle = min(3.25, float(stars.mean())) if len(stars) else 3.25
    return np.maximum(stars - np.float32(middle - 0.25), 0) / np.float32(2.75)


def _likeness_to(recommender: Recommender, met: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32[k, h]: how like each of the items is to each film that was met, as the model has it.

    For a model that learnt its users and does not read their histories: its vectors know what goes to the same people.
    """
    if isinstance(recommender, KnowsLikeness):
        return recommender.likeness(met, items).T
    return np.asarray(recommender.similarities(items)[:, met], dtype=np.float32)


def _reason(reason: Reason, cards: Sequence[Mapping[str, Any]]) -> dict[str, object] | None:
    text = text_of(reason, lambda item: str(cards[item]["title"]))
    if text is None:
        return None
    films = [
        {"movie_id": cards[item]["movie_id"], "title": cards[item]["title"], "weight": weight}
        for item, weight in reason.items
    ]
    words = [(name.partition(":"), weight) for name, weight in reason.words]
    return {
        "text": text,
        "films": films,
        "words": [{"kind": kind, "word": word, "weight": weight} for (kind, _, word), weight in words],
    }


def similar(served: Served, request: SimilarRequest) -> SimilarResponse:
    """The films most like one.

    ``RequestRefused``: 404 for a film that the bundle does not have, 400 for an index that is not there.
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
        rows, likeness = bundle.recommender.similar(np.array([item]), request.k)
        found, scores = rows[0], likeness[0]
    else:
        try:
            found, scores = served.indexes.search(request.index, item, request.k)
        except IndexMissing as missing:
            raise RequestRefused(
                HTTPStatus.BAD_REQUEST,
                f"There is no index {request.index} over the served films: {missing}.",
                "Ask with `index` exact, which is always there.",
            ) from missing
    source: Source = "popular" if bundle.recommender.name == "popularity" else "similar"
    return SimilarResponse.model_validate(
        {
            "movie_id": request.movie_id,
            "items": _items(served, found, scores, source),
            "index": request.index,
            "fallback": None,
            "provenance": provenance_of(bundle, None, 0),
        }
    )


def _popular(
    cause: Literal["unknown_user", "no_features", "feature_store_unavailable", "no_history"], reason: str
) -> Fallback:
    return Fallback(used="popularity", cause=cause, reason=f"{reason} These are popular films.")


def _items(
    served: Served,
    found: NDArray[np.int64],
    scores: NDArray[np.float32],
    source: Source,
    reasons: Sequence[dict[str, object] | None] | None = None,
) -> list[dict[str, object]]:
    """The films of a row of ``recommend`` or ``similar``, without its padding, as arguments of an ``Item``.

    Left to the answer to validate as a whole: that takes 1 microsecond an item, making each by itself 3 to 5.
    """
    count = int((found >= 0).sum())
    told = [None] * count if reasons is None else reasons
    rows = enumerate(zip(found[:count].tolist(), scores[:count].tolist(), told, strict=True), start=1)
    return [
        {**served.catalogue.cards[item], "rank": rank, "score": score, "source": source, "reason": reason}
        for rank, (item, score, reason) in rows
    ]


def provenance_of(bundle: Bundle, features: UserFeatures | None, app_ratings: int | None) -> Provenance:
    """Where an answer of this bundle came from."""
    found = features is not None and features.found
    return Provenance(
        model_version=bundle.version,
        recommender=bundle.recommender.name,
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
    """One answer a user, in the order asked, each as ``recommend`` gives it.

    Whom the model can score is scored together: one reading of features, one product. ``apps`` goes with the users,
    None where the app's store could not be read.
    """
    bundle = served.bundle
    known = apps or [NOBODY] * len(request.user_ids)
    tastes = [taste_of(served, user, app) for user, app in zip(request.user_ids, known, strict=True)]
    wishes = request.model_dump(exclude={"user_ids", "reasons"})
    together = [
        place
        for place, taste in enumerate(tastes)
        if taste.user >= 0 or (bundle.recommender.uses_history and len(taste.fresh))
    ]
    features: dict[int, UserFeatures] = {}
    if served.features is not None and together:
        asked = [place for place in together if tastes[place].user >= 0]
        try:
            read = served.features.read_many([int(served.user_keys[tastes[place].user]) for place in asked])
        except FeatureStoreUnavailable as error:
            logger.warning("%s", error)
            together = []
        else:
            features = {place: found for place, found in zip(asked, read, strict=True) if found.found}
            together = [place for place in together if place in features]
    answers: dict[int, RecommendResponse] = {}
    if together:
        batch = UserBatch(
            np.array([tastes[place].user for place in together]),
            csr_array(vstack([tastes[place].history for place in together], format="csr")),
            np.stack([features[place].values for place in together]) if features else None,
            bundle.item_features,
            np.concatenate([tastes[place].times for place in together]),
        )
        scores = np.array(bundle.recommender.score(batch), dtype=np.float32)
        for row, place in enumerate(together):
            scores[row] = _moved(bundle.recommender, scores[row][None], tastes[place])[0]
        if not request.include_seen:
            scores = mask_seen(scores, batch.history)
        for row, place in enumerate(together):
            scores[row, tastes[place].dismissed] = -np.inf
        found, best, empty = _narrowed(served, scores, request)
        source: Source = "popular" if bundle.recommender.name == "popularity" else "collaborative"
        for row, place in enumerate(together):
            reasons = None
            if request.reasons:
                one = Scored(
                    tastes[place], batch.take(slice(row, row + 1)), scores[row][None], source, features.get(place), None
                )
                reasons = reasons_told(served, one, found[row][found[row] >= 0])
            answers[place] = RecommendResponse.model_validate(
                {
                    "user_id": request.user_ids[place],
                    "items": _items(served, found[row], best[row], source, reasons),
                    "empty": empty[row],
                    "fallback": None,
                    "provenance": provenance_of(
                        bundle, features.get(place), None if apps is None else len(tastes[place].fresh)
                    ),
                }
            )
    for place, user in enumerate(request.user_ids):
        if place not in answers:
            alone = RecommendRequest.model_validate({**wishes, "user_id": user})
            answers[place] = recommend(served, alone, None if apps is None else apps[place])
    return BatchResponse(answers=[answers[place] for place in range(len(request.user_ids))])


def recommend_for_movie(served: Served, request: ForMovieRequest, app: AppHistory | None) -> ForMovieResponse:
    """Films like one film, ordered for a user: the likeness and what is expected of him count alike.

    ``RequestRefused`` (404) for a film that the model does not have, or a title that fits none.
    """
    item, others = _meant(served, request)
    likeness = np.array(served.bundle.recommender.similarities(np.array([item])), dtype=np.float32)
    likeness[0, item] = -np.inf
    scored = scored_for(served, request.user_id, (), app)
    taste = scored.taste
    if not request.include_seen:
        likeness = mask_seen(likeness, taste.history)
    likeness[0, taste.dismissed] = -np.inf
    pool = _candidates(served, likeness, request)
    expected = _expected(scored)
    scores = np.full_like(likeness, -np.inf)
    scores[0, pool] = _standard(likeness[0, pool]) + _standard(expected[pool])
    found, best, _ = _narrowed(served, scores, request)
    return ForMovieResponse.model_validate(
        {
            "user_id": request.user_id,
            "items": _items(
                served, found[0], best[0], "similar", reasons_told(served, scored, found[0][found[0] >= 0])
            ),
            "empty": None if found[0, 0] >= 0 else "wishes",
            "fallback": scored.fallback,
            "provenance": provenance_of(served.bundle, scored.features, None if app is None else len(taste.fresh)),
            "movie": named(served, item),
            "other_matches": [named(served, other) for other in others],
        }
    )


def cold_start(served: Served, request: ColdStartRequest) -> RecommendResponse:
    """Films for somebody of whom only preferred genres, and perhaps some liked films, are known.

    What is liked is a history of five stars; without it, popularity. Films of preferred genres come before all others,
    and among them the share of a film's genres that is preferred weighs as much as a standard deviation of the scores.
    """
    scored = scored_for(served, None, [Met(movie_id=movie) for movie in request.liked])
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
                served, found[0], best[0], scored.source, reasons_told(served, scored, found[0][found[0] >= 0])
            ),
            "empty": empty[0],
            "fallback": scored.fallback,
            "provenance": provenance_of(served.bundle, None, len(scored.taste.fresh)),
        }
    )


def _meant(served: Served, request: ForMovieRequest) -> tuple[int, list[int]]:
    """The film that a request names, and the others that its title fits as well or nearly, the best known first."""
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
    """The index of a film; ``RequestRefused`` (404) for an id that the bundle does not have."""
    item = None if movie_id is None else served.bundle.item_index.get(movie_id)
    if item is None:
        raise RequestRefused(
            HTTPStatus.NOT_FOUND,
            f"Movie {movie_id} is not among the {len(served.bundle.items)} films of the served model.",
            "Find it with /v1/films/search.",
        )
    return item


def named(served: Served, item: int) -> Named:
    """A film by name."""
    card = served.catalogue.cards[item]
    return Named(movie_id=card["movie_id"], title=card["title"], year=card["year"])


def _candidates(served: Served, likeness: NDArray[np.float32], request: ForMovieRequest) -> NDArray[np.int64]:
    """The films most like one among those that may be shown: three times as many as are wanted, at least 60."""
    allowed = allowed_films(served.facts, served.catalogue, request)
    if allowed is not None:
        likeness = np.where(allowed[None], likeness, -np.inf).astype(np.float32)
    found, _ = top_k(likeness, max(3 * request.k, 60))
    return found[0][found[0] >= 0]


def _expected(scored: Scored) -> NDArray[np.float32]:
    """float32[n_items]: the scores, on a scale on which they can be added to others."""
    popular = scored.fallback is not None and scored.fallback.used == "popularity"
    return np.asarray(np.log1p(scored.scores[0]) if popular else scored.scores[0], dtype=np.float32)


def _standard(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores around 0 in standard deviations, so that two kinds of them can be added."""
    if not len(scores):
        return scores
    return np.asarray((scores - scores.mean()) / max(float(scores.std()), 1e-9), dtype=np.float32)
