"""The routes that recommend, and their edge cases, asked over real HTTP of the built bento of the tiny bundle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from bento.client import AsyncMarqueeClient, ClientError, MarqueeClient, serving
from bento.packaging.build import build
from models.serving.bundle import write_pointer
from settings import Settings
from tests.unit.bento.conftest import TITLES, write_tiny_bundle

pytestmark = pytest.mark.xdist_group("recommending")


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(home=tmp_path_factory.mktemp("recommending"))
    version = write_tiny_bundle(settings.models)
    write_pointer(settings.serving_pointer, version)
    build(settings, settings.models / version)
    with serving(settings) as client, httpx.Client(base_url=client.url, timeout=30, trust_env=False) as ready:
        yield ready


def _ask(http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def _refused(http: httpx.Client, path: str, status: int, **body: Any) -> str:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def _titles(said: dict[str, Any]) -> list[str]:
    return [item["title"] for item in said["items"]]


@pytest.mark.parametrize(
    ("wishes", "left"),
    [
        ({}, {"Gamma", "Delta", "Epsilon"}),
        ({"include_seen": True}, set(TITLES)),
        ({"genres": ["drama"]}, {"Delta", "Epsilon"}),
        ({"genres": ["War", "Comedy"]}, {"Gamma"}),
        # A film of unknown year fits no bound on it.
        ({"min_year": 1900}, {"Delta", "Epsilon"}),
        ({"min_year": 1993, "max_year": 1993}, {"Delta"}),
        ({"min_votes": 2}, {"Gamma", "Delta"}),
        ({"exclude": [103, 7]}, {"Gamma", "Epsilon"}),
        ({"exclude": [203]}, {"Gamma", "Epsilon"}),
        ({"min_runtime": 1}, set()),
    ],
)
def test_a_user_gets_the_films_that_his_wishes_leave(
    http: httpx.Client, wishes: dict[str, Any], left: set[str]
) -> None:
    said = _ask(http, "/recommend", user_id=12, **wishes)
    assert set(_titles(said)) == left
    assert said["empty"] == (None if left else "wishes")
    assert said["provenance"]["model_version"]


def test_a_history_is_answered_as_the_user_who_has_it(http: httpx.Client) -> None:
    known = _ask(http, "/recommend", user_id=12)
    sent = _ask(http, "/recommend", history=[{"movie_id": 100, "rating": 1.0}, {"movie_id": 101, "rating": 1.0}])
    assert [(item["title"], item["score"]) for item in sent["items"]] == [
        (item["title"], item["score"]) for item in known["items"]
    ]
    assert (sent["user_id"], sent["fallback"]) == (None, None)


def test_an_empty_history_or_one_of_unknown_films_gets_popular_ones_and_says_so(http: httpx.Client) -> None:
    for history in ([], [{"movie_id": 7}]):
        said = _ask(http, "/recommend", history=history)
        assert (said["fallback"]["cause"], len(said["items"])) == ("no_history", len(TITLES))


def test_who_has_seen_every_film_gets_none_and_the_reason(http: httpx.Client) -> None:
    said = _ask(http, "/recommend", user_id=14)
    assert (said["items"], said["empty"]) == ([], "all_seen")


def test_more_films_than_there_are_gives_all_that_are_left(http: httpx.Client) -> None:
    assert len(_ask(http, "/recommend", user_id=13, k=500)["items"]) == 4


def test_an_unknown_genre_is_refused_with_the_known_ones(http: httpx.Client) -> None:
    for path, body in (("/recommend", {"user_id": 12}), ("/cold_start", {})):
        assert "Comedy, Drama, War" in _refused(http, path, 400, genres=["Operetta"], **body)
    answer = http.get("/v1/popular", params={"genre": "Operetta"})
    assert answer.status_code == 422


def test_diversity_brings_another_genre_forward(http: httpx.Client) -> None:
    by_score = _ask(http, "/recommend", user_id=13, include_seen=True)
    spread = _ask(http, "/recommend", user_id=13, include_seen=True, diversity=0.9)
    assert set(_titles(by_score)) == set(_titles(spread))
    first, second = spread["items"][:2]
    assert not set(first["genres"]) & set(second["genres"])
    scores = {item["title"]: item["score"] for item in by_score["items"]}
    assert {item["title"]: item["score"] for item in spread["items"]} == scores


def test_a_batch_gives_each_user_what_he_gets_alone(http: httpx.Client) -> None:
    user = http.post("/v1/users", json={}).json()["user_id"]
    http.put(f"/v1/users/{user}/ratings/100", json={"rating": 5})
    users = [11, 12, 13, 14, 99, user]
    for wishes in ({}, {"genres": ["Drama"], "k": 2}, {"include_seen": True, "diversity": 0.5}):
        # Who is named again is answered once.
        together = _ask(http, "/recommend_batch", user_ids=[*users, 12, 11], **wishes)["answers"]
        alone = [_ask(http, "/recommend", user_id=user_id, **wishes) for user_id in users]
        for one, other in zip(together, alone, strict=True):
            assert [item["title"] for item in one["items"]] == [item["title"] for item in other["items"]]
            assert {**one, "items": []} == {**other, "items": []}
    _refused(http, "/recommend_batch", 400, user_ids=[])
    _refused(http, "/recommend_batch", 400, user_ids=list(range(1, 202)))


def test_a_batch_is_bounded_in_users_times_movies_and_more_so_with_reasons(http: httpx.Client) -> None:
    for most, reasons in ((10_000, False), (2_000, True)):
        users = list(range(1, 41))
        said = _refused(http, "/recommend_batch", 400, user_ids=users, k=most // 40 + 1, reasons=reasons)
        # The bound, and what to do about it.
        for told in (f"{most:,}", f"at most {most // 40},", "several requests"):
            assert told in said
        assert len(_ask(http, "/recommend_batch", user_ids=users, k=most // 40, reasons=reasons)["answers"]) == 40
    one = {"user_ids": [12] * 200, "k": 500, "reasons": True, "diversity": 1.0, "blend": 0.5}
    assert len(_ask(http, "/recommend_batch", **one)["answers"]) == 1


def test_a_body_with_thousands_of_errors_is_refused_in_a_few_words(http: httpx.Client) -> None:
    bodies = {
        "fields": {f"f{number}": 1 for number in range(20_000)},
        "more fields": {f"f{number}": 1 for number in range(60_000)},
        "history": {"history": [{"movie_id": "x"}] * 10_000},
        "lists": {"user_id": 12, "genres": [[]] * 20_000},
        "exclude": {"user_id": 12, "exclude": ["x"] * 1_000},
    }
    for name, body in bodies.items():
        answer = http.post("/recommend", json=body)
        assert answer.status_code in (400, 413), name
        assert len(answer.content) < 2_000, name
    for body in (bodies["fields"], {"name": "x" * 20_000}):
        assert http.post("/v1/users", json=body).status_code == 413
    # What is meant is taken.
    history = [{"movie_id": number, "rating": 4.5} for number in range(10_000)]
    assert http.post("/recommend", json={"history": history}).status_code == 200
    errors = http.post("/recommend", json={"user_id": 1, "a": 1, "b": 2}).json()["errors"]
    assert sorted(error["field"] for error in errors) == ["a", "b"]


def test_health_is_answered_while_large_answers_are_made(http: httpx.Client) -> None:
    large = {"user_ids": list(range(1, 201)), "k": 10, "reasons": True, "blend": 0.5, "diversity": 1.0}
    done = threading.Event()

    def ask_large() -> list[int]:
        try:
            with ThreadPoolExecutor(4) as crowd:
                asked = crowd.map(lambda _: http.post("/recommend_batch", json=large), range(10))
                return [answer.status_code for answer in asked]
        finally:
            done.set()

    meanwhile = 0
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(ask_large)
        while not done.is_set():
            assert http.get("/readyz").status_code == 200
            meanwhile += 1
        assert asked.result() == [200] * 10
    # Were they made on the event loop, health would come between two of them at most.
    assert meanwhile > 20


def test_callers_at_once_get_what_each_gets_alone(http: httpx.Client) -> None:
    bodies: list[dict[str, Any]] = [
        {"user_id": (11, 12, 13, 99)[place % 4], "k": 1 + place % 5, "include_seen": place % 3 == 0}
        for place in range(40)
    ]
    bodies += [{"history": [{"movie_id": 100}]}, {"user_id": 11, "genres": ["Opera"]}, {"user_id": 11, "k": 0}] * 3

    async def at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=http.base_url, timeout=30, trust_env=False) as client:
            return await asyncio.gather(*(client.post("/recommend", json=body) for body in bodies))

    own = {"request_id", "instance"}
    for body, answer in zip(bodies, asyncio.run(at_once()), strict=True):
        alone = http.post("/recommend", json=body)
        assert answer.status_code == alone.status_code == (400 if "genres" in body or body.get("k") == 0 else 200)
        mine, other = ({key: value for key, value in said.json().items() if key not in own} for said in (answer, alone))
        for item, same in zip(mine.pop("items", []), other.pop("items", []), strict=True):
            assert item.pop("score") == pytest.approx(same.pop("score"), rel=1e-5)
            for reason in (item.pop("reason"), same.pop("reason")):
                assert reason["text"]
            assert item == same
        assert mine == other


def test_a_user_is_answered_by_the_model_and_the_blend_that_he_asks_for(http: httpx.Client) -> None:
    plain, named, half, content, popular = (
        _ask(http, "/recommend", user_id=13, **wishes)
        for wishes in ({}, {"model": "ease"}, {"blend": 0.5}, {"model": "content"}, {"model": "popularity", "k": 2})
    )
    assert plain == named
    assert [said["provenance"]["recommender"] for said in (plain, half, content, popular)] == [
        "ease", "ease", "content", "popularity",
    ]  # fmt: skip
    assert [said["provenance"]["blend"] for said in (plain, half, content, popular)] == [None, 0.5, None, None]
    assert {item["source"] for item in content["items"]} == {"content"}
    assert {item["source"] for item in half["items"]} == {"content", "collaborative"}
    # Delta is all that he met; Epsilon is the other one of its genre and decade that not everybody knows.
    reasons = {item["title"]: item["reason"] for item in half["items"]}
    assert reasons["Epsilon"]["text"].startswith("Because you rated Delta")
    assert {word["word"] for word in reasons["Epsilon"]["words"]} == {"Drama", "1990"}
    assert _titles(_ask(http, "/recommend", user_id=13, blend=1.0)) == _titles(content)
    assert _titles(popular) == ["Alpha", "Beta"]
    stranger = http.post("/v1/users", json={}).json()["user_id"]
    http.put(f"/v1/users/{stranger}/ratings/103", json={"rating": 5})
    told = _ask(http, "/recommend", user_id=stranger, model="content")
    assert (told["fallback"], _titles(told)) == (None, _titles(content))
    together = _ask(http, "/recommend_batch", user_ids=[13, stranger], blend=0.5, reasons=True)["answers"]
    assert together[0]["items"] == half["items"]
    for_movie = _ask(http, "/recommend_for_movie", user_id=13, movie_id=100, model="content")
    assert _titles(for_movie)[0] == "Epsilon"
    detail = _refused(http, "/recommend", 400, user_id=13, model="flagship")
    assert detail.startswith("Its models are: ease, popularity, content.")
    for wrong in ({"blend": 1.5}, {"model": "content", "blend": 0.5}, {"model": ""}):
        _refused(http, "/recommend", 400, user_id=13, **wrong)


def test_films_say_why_they_are_there_also_where_they_are_like_one_or_for_somebody_new(http: httpx.Client) -> None:
    for_movie = _ask(http, "/recommend_for_movie", user_id=12, movie_id=102)
    cold = _ask(http, "/cold_start", genres=["Drama"], liked=[100])
    silent, told = (_ask(http, "/recommend_batch", user_ids=[12, 99], reasons=wanted) for wanted in (False, True))
    alone = _ask(http, "/recommend", user_id=12)
    texts = [item["reason"]["text"] for item in (*for_movie["items"], *cold["items"]) if item["reason"]]
    assert any(text.startswith("Because you rated Alpha") for text in texts)
    assert {item["reason"] for item in silent["answers"][0]["items"]} == {None}
    assert told["answers"][0]["items"] == alone["items"]
    assert told["answers"][1]["items"][0]["reason"]["text"] == "Rated by 3 users."


def test_a_rating_is_predicted_and_a_film_explained_for_users_known_or_not(http: httpx.Client) -> None:
    known = _ask(http, "/predict_rating", user_id=12, movie_id=102)
    assert known["interval"]["low"] <= known["predicted"] <= known["interval"]["high"]
    assert (known["movie"]["title"], known["fallback"], known["would_like"]) == ("Gamma", None, False)
    assert known["provenance"]["model_version"]
    stranger = _ask(http, "/predict_rating", user_id=99, movie_id=102)
    assert stranger["fallback"]["used"] == "averages"
    listed = _ask(http, "/recommend", user_id=12)["items"][0]
    told = _ask(http, "/explain", user_id=12, movie_id=listed["movie_id"])
    assert (told["rank"], told["score"], told["reason"]["text"]) == (1, listed["score"], listed["reason"]["text"])
    for path in ("/predict_rating", "/explain"):
        _refused(http, path, 404, user_id=12, movie_id=7)
        _refused(http, path, 400, user_id=12)
        _refused(http, path, 400, user_id=12, movie_id="x")


def test_both_clients_speak_to_every_route_that_answers(http: httpx.Client) -> None:
    url = str(http.base_url)

    async def at_once() -> list[BaseModel]:
        async with AsyncMarqueeClient(url) as client:
            with pytest.raises(ClientError, match="404"):
                await client.similar(7)
            return await asyncio.gather(
                client.recommend(12, 2, genres=["Drama"]),
                client.recommend(12, 2, blend=0.5),
                client.recommend_batch([12, 13], 2),
                client.recommend_for_movie(12, "gamma", 2),
                client.cold_start(["Drama"], [100], 2),
                client.similar(100, 2),
                client.similar(100, 2, by="content"),
                client.predict_rating(12, 102),
                client.explain(12, 102),
            )

    with MarqueeClient(url) as client:
        one_by_one: list[BaseModel] = [
            client.recommend(12, 2, genres=["Drama"]),
            client.recommend(12, 2, blend=0.5),
            client.recommend_batch([12, 13], 2),
            client.recommend_for_movie(12, "gamma", 2),
            client.cold_start(["Drama"], [100], 2),
            client.similar(100, 2),
            client.similar(100, 2, by="content"),
            client.predict_rating(12, 102),
            client.explain(12, 102),
        ]
    assert asyncio.run(at_once()) == one_by_one


def test_both_clients_make_users_rate_and_forget(http: httpx.Client) -> None:
    url = str(http.base_url)

    async def at_once() -> list[Any]:
        async with AsyncMarqueeClient(url) as client:
            user = (await client.create_user("Ann", idempotency_key="client-async")).user_id
            assert (await client.create_user("Ann", idempotency_key="client-async")).user_id == user
            rated = await client.rate(user, 100, 4.5)
            event = await client.send_event(user, 103, "dismissed", idempotency_key="client-async-event")
            told: list[Any] = [
                rated.rating, event.kind, [item.title for item in (await client.recommend(user)).items],
                [one.movie_id for one in (await client.list_ratings(user)).items], (await client.read_user(user)).name,
                (await client.search_films("gama")).items[0].title,
                [film.title for film in (await client.list_popular(genre="War")).items],
                [film.title for film in (await client.list_new(years=1, decade=1990)).items],
            ]  # fmt: skip
            await client.delete_rating(user, 100)
            told.append((await client.list_ratings(user)).items)
            await client.delete_user(user)
            with pytest.raises(ClientError, match="404"):
                await client.read_user(user)
            return told

    with MarqueeClient(url) as client:
        user = client.create_user("Ann").user_id
        rated = client.rate(user, 100, 4.5, idempotency_key="client-rates")
        event = client.send_event(user, 103, "dismissed")
        told: list[Any] = [
            rated.rating, event.kind, [item.title for item in client.recommend(user).items],
            [one.movie_id for one in client.list_ratings(user).items], client.read_user(user).name,
            client.search_films("gama").items[0].title, [film.title for film in client.list_popular(genre="War").items],
            [film.title for film in client.list_new(years=1, decade=1990).items],
        ]  # fmt: skip
        client.delete_rating(user, 100)
        told.append(client.list_ratings(user).items)
        client.delete_user(user)
        with pytest.raises(ClientError, match="404"):
            client.read_user(user)
    assert told[0] == 4.5
    assert told[3] == [100]
    assert "Delta" not in told[2]
    assert asyncio.run(at_once()) == told


def test_films_like_one_are_found_by_id_and_by_title_for_a_user(http: httpx.Client) -> None:
    by_id = _ask(http, "/recommend_for_movie", user_id=12, movie_id=102)
    by_title = _ask(http, "/recommend_for_movie", user_id=12, title="the gama")
    assert by_id["movie"] == by_title["movie"] == {"movie_id": 102, "title": "Gamma", "year": None}
    assert _titles(by_id) == _titles(by_title)
    # Neither the film itself nor what the user has met.
    assert set(_titles(by_id)) == {"Delta", "Epsilon"}
    assert by_id["other_matches"] == []
    _refused(http, "/recommend_for_movie", 404, user_id=12, movie_id=7)
    _refused(http, "/recommend_for_movie", 404, user_id=12, title="qqqq")
    _refused(http, "/recommend_for_movie", 400, user_id=12)
    stranger = _ask(http, "/recommend_for_movie", user_id=99, movie_id=100)
    assert stranger["fallback"]["cause"] == "unknown_user"
    assert "Alpha" not in _titles(stranger)


def test_a_cold_start_puts_preferred_genres_first_and_counts_what_is_liked(http: httpx.Client) -> None:
    said = _ask(http, "/cold_start", genres=["War"])
    assert (_titles(said)[0], said["fallback"]["cause"]) == ("Gamma", "no_history")
    liked = _ask(http, "/cold_start", genres=["Drama"], liked=[100, 7])
    assert liked["fallback"] is None
    assert "Alpha" not in _titles(liked)
    _refused(http, "/cold_start", 400, genres=[])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": 1, "history": []},
        {"user_id": 1, "k": 0},
        {"user_id": 1, "k": 501},
        {"user_id": 1, "diversity": 1.1},
        {"user_id": 1, "exclude": list(range(1_001))},
        {"user_id": 1, "genres": ["x" * 41]},
        {"user_id": 1, "unknown": 1},
        {"history": [{"movie_id": 1, "rating": 0.7}]},
        {"user_id": 2**63},
    ],
)
def test_a_wrong_wish_is_refused(http: httpx.Client, body: dict[str, Any]) -> None:
    _refused(http, "/recommend", 400, **body)


def test_popular_films_come_by_window_genre_and_decade_and_new_ones_by_weighted_rating(http: httpx.Client) -> None:
    films = http.get("/v1/popular").json()
    assert [film["title"] for film in films["items"]][:2] == ["Alpha", "Beta"]
    assert films["provenance"]["model_version"]
    for window in ("week", "month", "year"):
        assert len(http.get("/v1/popular", params={"window": window}).json()["items"]) == len(TITLES)
    drama = http.get("/v1/popular", params={"genre": "Drama", "decade": 1990, "limit": 2}).json()["items"]
    assert [film["title"] for film in drama] == ["Alpha", "Delta"]
    new = http.get("/v1/new", params={"years": 2}).json()["items"]
    assert {film["title"] for film in new} == {"Delta", "Epsilon"}
    assert [film["weighted_rating"] for film in new] == sorted((film["weighted_rating"] for film in new), reverse=True)
    assert http.get("/v1/new", params={"years": 2, "decade": 1990}).json()["items"] == new
    assert http.get("/v1/new", params={"years": 2, "decade": 1970}).json()["items"] == []
    assert [film["title"] for film in http.get("/v1/new", params={"genre": "War", "years": 9}).json()["items"]] == []
    assert http.get("/v1/new", params={"decade": 1995}).status_code == 422
    for wrong in ({"window": "day"}, {"decade": 1995}, {"limit": 0}):
        assert http.get("/v1/popular", params=wrong).status_code == 422


def test_the_map_shows_places_most_rated_first_and_marks_a_film_with_its_neighbours(http: httpx.Client) -> None:
    whole = http.get("/v1/map", params={"movie_id": 201, "neighbours": 2}).json()
    # Alpha and Beta were rated thrice each; Epsilon came after the map.
    assert [(film["title"], film["x"], film["y"]) for film in whole["items"]] == [
        ("Alpha", -1.0, 0.5), ("Beta", -0.5, 0.25), ("Gamma", 0.0, 0.0), ("Delta", 1.0, -1.0),
    ]  # fmt: skip
    assert (whole["total"], whole["next_cursor"]) == (4, None)
    marked = whole["marked"]
    assert (marked["title"], marked["x"], marked["y"]) == ("Beta", -0.5, 0.25)
    alike = _ask(http, "/similar", movie_id=101, k=2)["items"]
    assert [(film["title"], film["score"]) for film in marked["neighbours"]] == [
        (film["title"], film["score"]) for film in alike
    ]
    first = http.get("/v1/map", params={"limit": 3}).json()
    rest = http.get("/v1/map", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert first["items"] + rest["items"] == whole["items"]
    assert (rest["next_cursor"], first["marked"]) == (None, None)
    drama = http.get("/v1/map", params={"genre": "drama", "limit": 1}).json()
    assert (drama["total"], drama["items"][0]["title"]) == (2, "Alpha")
    late = http.get("/v1/map", params={"movie_id": 104, "neighbours": 0, "limit": 0}).json()
    assert late["items"] == []
    assert (late["marked"]["title"], late["marked"]["x"], late["marked"]["neighbours"]) == ("Epsilon", None, [])
    for query, status in (({"movie_id": 999}, 404), ({"genre": "Opera"}, 422), ({"cursor": "?"}, 422)):
        answer = http.get("/v1/map", params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_an_index_that_is_not_there_is_refused_with_the_reason(http: httpx.Client) -> None:
    assert _ask(http, "/similar", movie_id=100, k=2)["index"] == "exact"
    for index in ("faiss", "annoy"):
        answer = http.post("/similar", json={"movie_id": 100, "k": 2, "index": index})
        assert answer.status_code == 400
        assert "ease has no vector an item" in answer.json()["error"]
    _refused(http, "/similar", 400, movie_id=100, index="guess")


def test_films_are_alike_by_behaviour_by_content_or_by_both(http: httpx.Client) -> None:
    by_default, behaviour, content, hybrid = (
        _ask(http, "/similar", movie_id=100, **wishes)
        for wishes in ({}, {"by": "behaviour", "model": "ease"}, {"by": "content"}, {"by": "hybrid"})
    )
    assert by_default == behaviour
    assert _titles(content) == ["Delta", "Epsilon", "Beta"]
    assert [{item["source"] for item in said["items"]} for said in (behaviour, content)] == [
        {"collaborative"}, {"content"},
    ]  # fmt: skip
    assert sorted(_titles(hybrid)) == sorted(_titles(behaviour))
    assert {item["source"] for item in hybrid["items"]} == {"collaborative", "content"}
    assert [said["provenance"]["recommender"] for said in (behaviour, content, hybrid)] == ["ease", "content", "ease"]
    assert [said["provenance"]["blend"] for said in (behaviour, content, hybrid)] == [None, None, 0.5]
    wordless = _ask(http, "/similar", movie_id=102, by="content")
    assert (wordless["items"], wordless["empty"]) == ([], "no_words")
    detail = _refused(http, "/similar", 400, movie_id=100, model="flagship")
    assert detail.startswith("Its models are: ease, popularity, content.")
    _refused(http, "/similar", 400, movie_id=100, by="content", model="ease")
    _refused(http, "/similar", 400, movie_id=100, by="hybrid", index="faiss")


def test_the_clients_know_the_map(http: httpx.Client) -> None:
    url = str(http.base_url)
    with MarqueeClient(url) as client:
        told = client.film_map(100, neighbours=1)
        with pytest.raises(ClientError, match="999"):
            client.film_map(999)

    async def ask() -> Any:
        async with AsyncMarqueeClient(url) as client:
            return await client.film_map(100, neighbours=1)

    assert told == asyncio.run(ask())
    assert told.marked is not None
    assert (told.marked.title, len(told.marked.neighbours)) == ("Alpha", 1)
