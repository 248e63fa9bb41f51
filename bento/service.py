"""The BentoML service: recommendations and similar films over HTTP, and the resources under ``/v1`` beside them."""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import bentoml
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bento.api.app import make_app
from bento.api.body_errors import limit_errors
from bento.api.dependencies import Backing, utc_now
from bento.api.openapi import ANSWERING
from bento.api.reference import reference_routes
from bento.auth.access_policy import Guard
from bento.auth.principal import Caller, caller
from bento.bundles.hot_reload import ServedBundle
from bento.bundles.loaded_bundle import Served
from bento.catalog.streaming_queries import Catalogues
from bento.errors import RequestRefused
from bento.experiments.assignment import Choice, Experiment, Shadows, overlap
from bento.experiments.served_list_log import AnswerLog, Noted, answers_of
from bento.features.refresher import FreshFeatures
from bento.features.timeouts import WithDeadline
from bento.middleware.access_log import RequestLog, write_lines
from bento.middleware.asgi import Front
from bento.middleware.http_protocol import bound_headers
from bento.middleware.metrics import send_metrics
from bento.recommendation import answers
from bento.recommendation import single_item as one_film
from bento.recommendation.answers import Asked
from bento.recommendation.compute_pool import ComputePool, check_wanted
from bento.recommendation.micro_batching import Together
from bento.schemas.recommendations import (
    BatchRequest,
    BatchResponse,
    ColdStartRequest,
    ExplainRequest,
    ExplainResponse,
    ForMovieRequest,
    ForMovieResponse,
    PredictRatingRequest,
    PredictRatingResponse,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
)
from bento.schemas.request_cost import cost_of
from bento.store import users as people
from bento.store.database import Store, StoreUnavailable
from bento.store.user_state import NOBODY, AppHistory
from bento.telemetry import Arrival, arrival, note_arrival, stage
from settings import Settings

if TYPE_CHECKING:
    from bento.middleware.tracing import Traces

#: Seconds that an answer waits for the app's store where that is a server; then it is made without.
STORE_DEADLINE_S = 0.25

logger = logging.getLogger("marquee.serving")

OneAnswer = RecommendResponse | SimilarResponse | PredictRatingResponse | ExplainResponse


class BuildArguments(BaseModel):
    """What is decided when the bento is built: the tag of the model that ships inside, none during development."""

    bundle: str = ""


_ARGUMENTS = bentoml.use_arguments(BuildArguments)


_RESOURCES = make_app()
_PAGES = Starlette(
    routes=[
        *reference_routes(lambda: Marquee.openapi_spec.asdict(), _RESOURCES.openapi),  # type: ignore[attr-defined]
        Route("/metrics", send_metrics),
    ]
)


# One user's scores are too little work to share: with two threads on two busy processors a request took five times as
# long, waiting for the other thread's turn.
@bentoml.asgi_app(_RESOURCES, path="/v1")
@bentoml.asgi_app(_PAGES, path="/")
@bentoml.service(
    name="Marquee",
    # Later than the deadline of the layer around all routes, whose answer is a problem with all its headers.
    traffic={"timeout": 65},
    envs=[{"name": "OMP_NUM_THREADS", "value": "1"}],
    # Here and not among the options of a start, so that it holds however the bento is started. BentoML's access log has
    # the paths, which say whose user was asked for, as they were sent: with line feeds and terminal codes in them.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Marquee:
    """Movie recommendations with IMDb links, for one user or around one film."""

    # BentoML ships what is a class attribute.
    if _ARGUMENTS.bundle:
        shipped = bentoml.models.BentoModel(_ARGUMENTS.bundle)

    def __init__(self) -> None:
        settings = Settings()
        _set_up_logging()
        # Threads in the background give way to answers after so many seconds, not after five times as many.
        sys.setswitchinterval(0.001)
        # A large answer has a hundred thousand objects, and each pass of the collector over all of them stops every
        # thread. By default that is two or three times an answer, for 10 to 100 ms each.
        gc.set_threshold(10_000, 5, 50)
        guard = Guard(settings)
        self._metrics = ServiceMetrics()
        self._bundle = ServedBundle(
            pointer=settings.serving_pointer,
            models=settings.models,
            feast=settings.feast,
            shipped=shipped_bundle(self),
            on_swap=self._swapped,
        )
        self._store = Store(settings.app_store)
        self._log: AnswerLog | None = None
        if settings.answer_log:
            keep = timedelta(days=settings.keep_answers_days)
            self._log = AnswerLog(self._store, utc_now, keep=keep, tell=self._metrics.logged)
        self._shadows = Shadows(self._metrics.shadowed)
        self._traces = _traces(settings)
        self._store_limit: anyio.CapacityLimiter | None = None
        try:
            self._store.migrate()
        except StoreUnavailable as error:
            # Recommendations go on without it, and the first request that finds it again makes its tables.
            logger.error("%s", error)
        self._experiment = Experiment.of(settings)
        # Where a store is a server, requests wait for it at the same time; else all there is to do is computing.
        waits = not self._store.is_sqlite or bool(settings.online_store.get_secret_value())
        self._together = Together(self._recommend_all, most_at_once=16 if waits else 1)
        self._small, self._large = ComputePool("answers"), ComputePool("large-answers")
        beside = self._experiment.challenger
        self._fresh = FreshFeatures(self._store, self._both, utc_now)
        _RESOURCES.state.backing = Backing(self._store, self._served, utc_now, guard.tokens, beside, self._fresh.note)
        _RESOURCES.state.catalogues = Catalogues(settings.published)
        self._bundle.start()
        self._fresh.start()
        if self._log is not None:
            self._log.start()
        if self._experiment.mode == "shadow":
            self._shadows.start()
        _RESOURCES.state.requests = RequestLog(ANSWERING, _RESOURCES.routes)
        _RESOURCES.state.request_timeout_s = settings.request_timeout_s
        _RESOURCES.state.guard = guard

    @bentoml.api(route="/recommend")
    async def recommend(self, request: RecommendRequest, /) -> RecommendResponse:
        """Films for a user, best first, without those already rated or dismissed.

        A rating sent to `/v1` counts at once. The user's features are read from the online feature store at this
        moment. A user whom the model or the feature store does not know gets films like those rated in the app, or
        popular ones; `fallback` then says so. `model` and `blend` ask for another of the bundle's models, or for the
        films' words to count beside it. Example: `{"user_id": 1, "k": 20}`.
        """
        query = Query(request, caller(), arrival())
        cost = cost_of(movies=request.k, reasons=True, history=len(request.history or ()))
        try:
            _charge(cost)
        except RequestRefused as refused:
            return _problem(refused)
        if cost == 1:
            return await self._together.ask(query)
        [answer] = await self._recommend_all([query], self._large)
        return answer

    @bentoml.api(route="/recommend_batch")
    async def recommend_batch(self, request: BatchRequest, /) -> BatchResponse:
        """Films for many users in one call, one answer a user in the order asked, each as `/recommend` gives it.

        A user who is named several times is answered once. At most 10,000 movies over all users, 2,000 with reasons.

        Example: `{"user_ids": [1, 2, 3], "k": 5}`.
        """
        served, users = self._bundle.current, request.user_ids
        apps = await self._app_histories(served, users)
        choices = self._experiment.choices(served, users)
        parts = [await _part_of_batch(choice, request, places, apps) for choice, places in choices]

        def joined(made: Sequence[BatchResponse]) -> BatchResponse:
            by_place = {
                place: answer
                for (_, places), batch in zip(choices, made, strict=True)
                for place, answer in zip(places, batch.answers, strict=True)
            }
            return BatchResponse(answers=[by_place[place] for place in range(len(users))])

        cost = cost_of(users=len(users), movies=len(users) * request.k, reasons=request.reasons)
        return await self._answer("recommend_batch", *parts, cost=cost, join=joined)

    @bentoml.api(route="/recommend_for_movie")
    async def recommend_for_movie(self, request: ForMovieRequest, /) -> ForMovieResponse:
        """Films like one film, ordered for a user: likeness and what the user likes count alike.

        The film is named by id or by title, as people type it; of several that the title fits the best known is taken,
        and the others are in `other_matches`. Example: `{"user_id": 1, "movie_id": 1, "k": 20}`.
        """
        user_id = request.user_id
        choice = self._experiment.choice(self._bundle.current, user_id)
        app = await self._app_history(choice.served, user_id)
        choice = await _with_features(choice, [user_id], _alone(app))
        part = Part(choice, lambda served: answers.recommend_for_movie(served, request, app), [user_id], _alone(app))
        return await self._answer("recommend_for_movie", part, cost=cost_of(movies=request.k, reasons=True))

    @bentoml.api(route="/cold_start")
    async def cold_start(self, request: ColdStartRequest, /) -> RecommendResponse:
        """Films for somebody who is new: preferred genres and, if given, some liked films.

        Example: `{"genres": ["Comedy"], "liked": [1], "k": 20}`.
        """
        nobody = Choice(self._bundle.current)
        part = Part(nobody, lambda served: answers.cold_start(served, request))
        return await self._answer("cold_start", part, cost=cost_of(movies=request.k, reasons=True))

    @bentoml.api(route="/similar")
    async def similar(self, request: SimilarRequest, /) -> SimilarResponse:
        """Films like one film by behaviour, content or both, most similar first.

        404 for a film that the model does not have, 400 for a model that the bundle does not ship.

        Example: `{"movie_id": 1, "k": 20}`.
        """
        nobody = Choice(self._bundle.current)
        return await self._answer("similar", Part(nobody, lambda served: answers.similar(served, request)))

    @bentoml.api(route="/predict_rating")
    async def predict_rating(self, request: PredictRatingRequest, /) -> PredictRatingResponse:
        """Predict the rating that a user would give a movie, with an 80 % interval and whether they would like it.

        The prediction uses all ratings of the user, the newest ones from the app included, but not the user's rating
        of this movie. For a user without ratings it is what people give the movie, and `fallback` says so. 404 for a
        movie that the model does not have. Example: `{"user_id": 1, "movie_id": 1}`.
        """
        user_id = request.user_id
        choice = self._experiment.choice(self._bundle.current, user_id)
        app = await self._app_history(choice.served, user_id)
        part = Part(choice, lambda served: one_film.predict_rating(served, request, app), [user_id], _alone(app))
        return await self._answer("predict_rating", part)

    @bentoml.api(route="/explain")
    async def explain(self, request: ExplainRequest, /) -> ExplainResponse:
        """Explain a movie for one user: its score and rank, and how much their ratings and its content count for it.

        404 for a movie that the model does not have; an unknown user gets the reason that popular movies have.
        Example: `{"user_id": 1, "movie_id": 1}`.
        """
        user_id = request.user_id
        choice = self._experiment.choice(self._bundle.current, user_id)
        app = await self._app_history(choice.served, user_id)
        choice = await _with_features(choice, [user_id], _alone(app))
        part = Part(choice, lambda served: one_film.explain(served, request, app), [user_id], _alone(app))
        return await self._answer("explain", part)

    def _swapped(self, served: Served) -> None:
        """Note the bundle that is served from now on."""
        self._metrics.swapped(served)
        if self._experiment.mode != "off":
            rests = self._experiment.rests(served)
            self._metrics.deals(self._experiment.name, self._experiment.mode, rests is None)
            if rests is not None:
                logger.warning("experiment %s rests: %s", self._experiment.name, rests)

    def _served(self) -> Served:
        """Return the current bundle; raise ``RequestRefused`` (503) if there is none."""
        served = self._bundle.current
        if served is None:
            raise self._not_ready()
        return served

    def _both(self) -> list[Served]:
        """Return the current bundle and the experiment's, as far as there are any."""
        return [one for one in (self._bundle.current, self._experiment.challenger) if one is not None]

    def _not_ready(self) -> RequestRefused:
        problem = self._bundle.problem
        assert problem is not None
        return RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, f"Not ready: {problem.message}", problem.remedy)

    async def _app_history(self, served: Served | None, user_id: int) -> AppHistory | None:
        """Read what the app's store knows of a user at this moment; None if it does not answer in time."""
        found = await self._app_histories(served, [user_id])
        return None if found is None else found[0]

    async def _app_histories(self, served: Served | None, user_ids: Sequence[int]) -> list[AppHistory] | None:
        """Likewise of several users, in their order."""
        if served is None:
            return None
        whos = [people.Who.of(user_id, served.catalogue.edition) for user_id in user_ids]

        def read() -> list[AppHistory]:
            with self._store.reading() as session:
                return people.app_histories(session, whos)

        try:
            # Threads that wait for a server that hangs are no longer free for the routes under /v1: these are others.
            self._store_limit = self._store_limit or anyio.CapacityLimiter(8)
            if self._store.is_sqlite:
                # A file does not hang; on a busy machine reading it may take long all the same.
                return await anyio.to_thread.run_sync(read, limiter=self._store_limit)
            with anyio.fail_after(STORE_DEADLINE_S):
                return await anyio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._store_limit)
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning("answering without the app's store: %s", error or "it took too long")
            return None

    async def _recommend_all(self, queries: Sequence[Query], pool: ComputePool | None = None) -> list[Response]:
        """Answer recommendation requests that came at the same time: one query to each store, one scoring."""
        pool = pool or self._small
        # What several share takes its time for each of them.
        shared = Arrival("", time.perf_counter())
        note_arrival(shared)
        promoted = self._bundle.current
        users = sorted({query.request.user_id for query in queries if query.request.user_id is not None})
        told = await self._app_histories(promoted, users) if users else []
        apps: dict[int, AppHistory | None] = (
            dict.fromkeys(users) if told is None else dict(zip(users, told, strict=True))
        )
        responses: dict[int, Response] = {}
        together: dict[int, list[tuple[int, Choice]]] = {}
        for place, query in enumerate(queries):
            choice = self._experiment.choice(promoted, query.request.user_id)
            try:
                if choice.served is None:
                    raise self._not_ready()
                if query.request.user_id is not None:
                    query.known.must_be(query.request.user_id, choice.served.catalogue.edition)
            except RequestRefused as refused:
                responses[place] = _problem(refused)
            else:
                together.setdefault(id(choice.served), []).append((place, choice))
        for group in together.values():
            requests = [queries[place].request for place, _ in group]
            asked = [Asked(one, NOBODY if one.user_id is None else apps[one.user_id]) for one in requests]
            served = await _with_features_of(group[0][1].served, asked)
            parts = [_part_of_one(choice.over(served), one) for (_, choice), one in zip(group, asked, strict=True)]
            came = [queries[place].came for place, _ in group]
            try:
                made = await pool.run(partial(self._recommend_group, served, asked, parts, came))
            except RequestRefused as refused:
                made = [_problem(refused)] * len(group)
            responses.update((place, response) for (place, _), response in zip(group, made, strict=True))
        for query in queries:
            query.came.stages.update(shared.stages)
        return [responses[place] for place in range(len(queries))]

    def _recommend_group(
        self, served: Served, asked: Sequence[Asked], parts: Sequence[Part], came: Sequence[Arrival]
    ) -> list[Response]:
        """Answer requests from one bundle, in a thread; count and log each answer."""
        start = time.perf_counter()
        with stage("model"):
            made = answers.recommend_each(served, asked)
        seconds = time.perf_counter() - start
        check_wanted()
        responses: list[Response] = []
        for part, answer, one in zip(parts, made, came, strict=True):
            if isinstance(answer, RequestRefused):
                responses.append(_problem(answer))
                continue
            self._told("recommend", part, answer, seconds, one)
            with stage("body"):
                responses.append(_json(answer))
        return responses

    async def _answer(
        self, endpoint: str, *parts: Part, cost: int = 1, join: Callable[[list[Any]], Any] | None = None
    ) -> Any:
        """Return the answer of one bundle, or of several joined, or the response that says why there is none.

        Small ones are made in one thread and large ones in another, so that they do not wait for each other.
        """
        try:
            for part in parts:
                if part.choice.served is None:
                    raise self._not_ready()
                for user_id in part.users:
                    caller().must_be(user_id, part.choice.served.catalogue.edition)
            _charge(cost)
            pool = self._small if cost == 1 else self._large
            return await pool.run(partial(self._make_answer, endpoint, parts, join))
        except RequestRefused as refused:
            return _problem(refused)

    def _make_answer(self, endpoint: str, parts: Sequence[Part], join: Callable[[list[Any]], Any] | None) -> Response:
        """Make the answer to one request, in a thread; count and log it."""
        start = time.perf_counter()
        made: list[Any] = []
        for part in parts:
            check_wanted()
            assert part.choice.served is not None
            with stage("model"):
                made.append(part.make(part.choice.served))
        seconds = time.perf_counter() - start
        check_wanted()
        for part, answer in zip(parts, made, strict=True):
            self._told(endpoint, part, answer, seconds, arrival())
        with stage("body"):
            return _json(made[0] if join is None else join(made))

    def _told(self, endpoint: str, part: Part, answer: Any, seconds: float, came: Arrival) -> None:
        """Name the experiment in an answer, count it, and have it logged.

        The version in the shadow makes it once more when this one is sent.
        """
        choice = part.choice
        for one in _each(answer):
            one.provenance.experiment, one.provenance.arm = choice.experiment, choice.arm
        self._metrics.answered(endpoint, answer, seconds)
        listed = answers_of(answer)
        if self._log is None or not listed:
            return
        names = part.names() or [None] * len(listed)
        assert choice.served is not None
        # Who chose a model or a blend himself says nothing of the versions that others are dealt to.
        told = listed[0].provenance
        dealt = told.blend is None and told.recommender == choice.served.bundle.recommender.name
        noted = Noted(
            utc_now(), came.request_id, endpoint, listed, names, time.perf_counter() - came.began,
            choice.experiment if dealt else None, choice.arm if dealt else None,
        )  # fmt: skip
        self._log.note(noted)
        if choice.shadow is not None and dealt:
            came.afterwards.append(lambda: self._shadows.add(lambda: self._cast_shadow(part, noted)))

    def _cast_shadow(self, part: Part, served: Noted) -> None:
        """Log what the version in the shadow would have answered."""
        assert part.choice.shadow is not None
        assert self._log is not None
        start = time.perf_counter()
        others = answers_of(part.make(part.choice.shadow))
        overlaps = [
            overlap([item.movie_key for item in mine.items], [item.movie_key for item in other.items])
            for mine, other in zip(served.answers, others, strict=True)
        ]
        seconds = time.perf_counter() - start
        self._log.note(
            replace(
                served,
                answers=others,
                latency_s=seconds,
                experiment=self._experiment.name,
                arm="shadow",
                overlaps=overlaps,
            )
        )

    async def __is_ready__(self) -> bool:
        """Whether a bundle is served; `/readyz` says why not."""
        if self._bundle.current is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"Not ready: {self._bundle.problem}")
        return True

    @bentoml.on_shutdown
    def close(self) -> None:
        """Stop following the pointer, write what is to be logged, and close the store."""
        self._bundle.stop()
        self._small.close()
        self._large.close()
        self._fresh.stop()
        self._shadows.stop()
        if self._log is not None:
            self._log.stop()
        if self._traces is not None:
            self._traces.stop()
        self._store.close()


Marquee.add_asgi_middleware(Front, state=_RESOURCES.state)  # type: ignore[attr-defined]
limit_errors(Marquee.apis.values())  # type: ignore[attr-defined]
bound_headers()


@dataclass(frozen=True, slots=True)
class Query:
    """A request for films that is answered together with others: who asks, and when it came."""

    request: RecommendRequest
    known: Caller
    came: Arrival


@dataclass(frozen=True, slots=True)
class Part:
    """What one bundle answers of a request: for which users, and what the app's store said of each (None: nothing)."""

    choice: Choice
    make: Callable[[Served], OneAnswer | BatchResponse]
    users: Sequence[int] = ()
    apps: Sequence[AppHistory] | None = None

    def names(self) -> list[tuple[str, int] | None]:
        """Whose the answers are, for the log; None for a user whom neither a bundle nor the app's store knows."""
        served = self.choice.served
        assert served is not None
        edition, promoted = served.catalogue.edition, self.choice.instead_of or served
        indexes = (served.bundle.user_index, promoted.bundle.user_index)
        told = self.apps or [NOBODY] * len(self.users)
        return [
            people.Who.of(user, edition).pair
            if (app.known or any(user in index for index in indexes)) and not app.forgotten
            else None
            for user, app in zip(self.users, told, strict=True)
        ]


def _each(answer: OneAnswer | BatchResponse) -> Sequence[OneAnswer]:
    if isinstance(answer, BatchResponse):
        return answer.answers
    return [answer]


def _traces(settings: Settings) -> Traces | None:
    if not settings.traces_url:
        return None
    # What it imports takes memory that serving does without.
    from bento.middleware.tracing import Traces

    return Traces(settings.traces_url)


def _alone(app: AppHistory | None) -> list[AppHistory] | None:
    return None if app is None else [app]


def _part_of_one(choice: Choice, asked: Asked) -> Part:
    """Return what one bundle answers of a request that was answered together with others."""
    user, app = asked.request.user_id, asked.app

    def again(served: Served) -> RecommendResponse:
        return answers.recommend(served, asked.request, app)

    return Part(choice, again) if user is None else Part(choice, again, [user], _alone(app))


async def _part_of_batch(
    choice: Choice, request: BatchRequest, places: Sequence[int], apps: Sequence[AppHistory] | None
) -> Part:
    """Return the part of a batch that one bundle answers: the users at these places."""
    users = [request.user_ids[place] for place in places]
    told = None if apps is None else [apps[place] for place in places]
    wanted = request if len(users) == len(request.user_ids) else request.model_copy(update={"user_ids": users})
    choice = await _with_features(choice, users, told)
    return Part(choice, lambda served: answers.recommend_batch(served, wanted, told), users, told)


async def _with_features_of(served: Served | None, asked: Sequence[Asked]) -> Served:
    """Return the bundle with the features of these users read ahead, as ``_with_features`` does."""
    of_users = [(one.request.user_id, one.app or NOBODY) for one in asked if one.request.user_id is not None]
    choice = await _with_features(Choice(served), [user for user, _ in of_users], [app for _, app in of_users])
    assert choice.served is not None
    return choice.served


async def _with_features(choice: Choice, user_ids: Sequence[int], apps: Sequence[AppHistory] | None) -> Choice:
    """Return the choice with these users' features read ahead if they come from a server; a file is read when needed.

    Deleted users have none.
    """
    served = choice.served
    if served is None or not isinstance(served.features, WithDeadline):
        return choice
    index, gone = served.bundle.user_index, [False] * len(user_ids) if apps is None else [app.forgotten for app in apps]
    known = {index[user] for user, forgotten in zip(user_ids, gone, strict=True) if user in index and not forgotten}
    if not known:
        return choice
    keys = [int(served.user_keys[place]) for place in sorted(known)]
    return choice.over(replace(served, features=await served.features.read_ahead(keys)))


class ServiceMetrics:
    """The service's own Prometheus metrics, beside BentoML's; made in the worker, where the metrics' folder is set."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self._answers = Counter(
            "marquee_answers",
            "Answers by endpoint, bundle and fallback (none: the model answered).",
            ["endpoint", "model_version", "fallback"],
        )
        self._seconds = Histogram(
            "marquee_answer_seconds",
            "Time to make an answer, without HTTP.",
            ["endpoint"],
            buckets=(0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.5, 2.0),
        )
        self._model = Gauge(
            "marquee_model_served",
            "1 for the bundle that is served now.",
            ["model_version"],
            multiprocess_mode="livemax",
        )
        self._age = Gauge(
            "marquee_feature_age_seconds",
            "Age of the online features that the last answer with any was made of.",
            multiprocess_mode="livemostrecent",
        )
        self._errors = Counter(
            "marquee_online_store_errors", "Answers that had to do without the online feature store.", ["endpoint"]
        )
        self._logged = Counter(
            "marquee_served_answers_logged", "Answers for the log, by what became of them.", ["outcome"]
        )
        self._shadow = Counter("marquee_shadow_answers", "Answers in the shadow, by what became of them.", ["outcome"])
        self._deals = Gauge(
            "marquee_experiment_deals",
            "1 while users are dealt to another version, 0 while the experiment rests.",
            ["experiment", "mode"],
            multiprocess_mode="livemax",
        )
        self._version: str | None = None

    def answered(self, endpoint: str, answer: OneAnswer | BatchResponse, seconds: float) -> None:
        """Count one answer, or those of a batch."""
        for one in _each(answer):
            cause = "none" if one.fallback is None else one.fallback.cause
            self._answers.labels(endpoint, one.provenance.model_version, cause).inc()
            if cause == "feature_store_unavailable":
                self._errors.labels(endpoint).inc()
        if (told := one.provenance.feature_timestamp) is not None:
            self._age.set((utc_now() - datetime.fromisoformat(told)).total_seconds())
        self._seconds.labels(endpoint).observe(seconds)

    def logged(self, outcome: str, count: int) -> None:
        """Count answers that were written to the log, or why they were not."""
        if count:
            self._logged.labels(outcome).inc(count)

    def shadowed(self, outcome: str) -> None:
        """Count an answer that nobody waited for."""
        self._shadow.labels(outcome).inc()

    def deals(self, experiment: str, mode: str, does: bool) -> None:
        """Note whether users are dealt."""
        self._deals.labels(experiment, mode).set(int(does))

    def swapped(self, served: Served) -> None:
        """Note the bundle that is served from now on."""
        if self._version is not None:
            self._model.labels(self._version).set(0)
        self._version = served.bundle.version
        self._model.labels(self._version).set(1)


class _CallersMistakes(logging.Filter):
    """Takes the traceback off a refused body: BentoML logs it as an error of the service, once a bad request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without the traceback where the body was refused."""
        if record.exc_info and isinstance(record.exc_info[1], ValidationError):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args, record.exc_info = (
                "refused: %s errors in the body",
                (record.exc_info[1].error_count(),),
                None,
            )
        return True


def _set_up_logging() -> None:
    write_lines()
    logging.getLogger("marquee").setLevel(logging.INFO)
    logging.getLogger("bentoml._internal.server.http_app").addFilter(_CallersMistakes())


def shipped_bundle(service: object) -> Path | None:
    """Return the folder of the bundle inside the bento; None during development."""
    model = getattr(service, "shipped", None)
    if model is None:
        return None
    return Path(model.path) / "bundle"


def _json(answer: BaseModel) -> Response:
    """Written here: BentoML would validate what was made just now once more, and send it in pieces."""
    return Response(answer.model_dump_json(), media_type="application/json")


def _problem(refused: RequestRefused) -> JSONResponse:
    """Return an error in the shape that the OpenAPI document describes."""
    said = {"error": refused.message, "detail": refused.remedy}
    return JSONResponse(said, status_code=refused.status, headers=refused.headers)


def _charge(cost: int) -> None:
    """Count a request for what it costs more than one that is counted already; ``RequestRefused`` (429) if too much."""
    if cost > 1 and (wait := arrival().charge(cost - 1)):
        seconds = math.ceil(wait)
        raise RequestRefused(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Too many requests: this one counts as {cost}.",
            f"Wait {seconds} s, or ask for less at once.",
            {"Retry-After": str(seconds)},
        )
