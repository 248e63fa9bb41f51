"""The log of served answers, on SQLite and PostgreSQL: whose rows they are, and that they go with the person."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from bento.experiments.served_list_log import BATCH, AnswerLog, Noted
from bento.schemas.recommendations import RecommendResponse
from bento.store import users as people
from bento.store.database import Store, StoreUnavailable
from bento.store.served_lists import AnswerRow, forget_old_answers, keep_answers
from bento.store.tables import Pseudonym, ServedAnswer, Subject
from bento.store.users import Who

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ANN, BEN = Who("made-up", 1), Who("made-up", 2)
KEEP = timedelta(days=90)


def _answer(*films: int, fallback: str | None = None) -> RecommendResponse:
    items = [
        {
            "rank": rank, "movie_id": film - 900, "movie_key": film, "imdb_id": None, "title": "A", "year": None,
            "genres": [], "score": 1 / rank, "link": None, "link_kind": None, "source": "collaborative",
        }
        for rank, film in enumerate(films, start=1)
    ]  # fmt: skip
    told = None if fallback is None else {"used": "popularity", "cause": fallback, "reason": "so"}
    provenance = {
        "model_version": "ease-1", "recommender": "ease", "data_snapshot": {"edition": "made-up"},
        "feature_service": None, "feature_hash": None, "feature_timestamp": None,
    }  # fmt: skip
    return RecommendResponse.model_validate({"user_id": 1, "items": items, "fallback": told, "provenance": provenance})


def _noted(*names: tuple[str, int] | None, at: datetime = NOW, request_id: str = "r1", **more: Any) -> Noted:
    return Noted(at, request_id, "recommend", [_answer(901, 902) for _ in names], names, 0.0042, **more)


class Told:
    """Counts what the log tells of itself."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def __call__(self, outcome: str, count: int) -> None:
        if count:
            self.counts[outcome] = self.counts.get(outcome, 0) + count


def _log(store: Store, **more: Any) -> tuple[AnswerLog, Told]:
    told = Told()
    return AnswerLog(store, lambda: NOW, keep=KEEP, tell=told, **more), told


def _rows(store: Store) -> list[ServedAnswer]:
    with store.reading() as session:
        return list(session.execute(select(ServedAnswer).order_by(ServedAnswer.answer_id)).scalars())


def test_an_answer_is_logged_with_all_that_is_known_of_it(store: Store) -> None:
    log, told = _log(store)
    log.note(_noted(ANN.pair, experiment="e1", arm="challenger"))
    log.note(Noted(NOW, "r2", "cold_start", [_answer(903, fallback="unknown_user")], [None], 0.001))
    log.flush()
    first, second = _rows(store)
    assert (first.answered_at, first.request_id, first.route) == (NOW, "r1", "recommend")
    assert (first.model_version, first.data_snapshot) == ("ease-1", '{"edition": "made-up"}')
    assert (first.experiment, first.arm, first.fallback, first.latency_ms) == ("e1", "challenger", None, 4.2)
    assert (first.movie_keys, first.scores) == ("[901, 902]", "[1.0, 0.5]")
    assert first.subject is not None
    assert len(first.subject) == 32
    assert (second.subject, second.fallback, second.experiment) == (None, "unknown_user", None)
    assert told.counts == {"written": 2}


def test_a_person_has_one_key_in_both_logs_whichever_came_first(store: Store) -> None:
    log, _ = _log(store)
    log.note(_noted(ANN.pair, ANN.pair))
    log.flush()
    with store.writing() as session:
        adopted = people.adopt_user(session, ANN, NOW)
        writer = people.create_user(session, "Cid", NOW)
        keys = dict(session.execute(select(Subject.user_ref, Subject.subject)).tuples().all())
        of_ann, of_cid, cid = keys[adopted.id], keys[writer.id], (writer.source, writer.source_id)
    log.note(_noted(cid))
    log.flush()
    assert [row.subject for row in _rows(store)] == [of_ann, of_ann, of_cid]


def test_who_is_deleted_takes_his_answers_along_also_those_that_wait(store: Store) -> None:
    log, told = _log(store)
    log.note(_noted(ANN.pair, BEN.pair))
    log.flush()
    log.note(_noted(ANN.pair, BEN.pair))
    with store.writing() as session:
        people.forget_user(session, ANN, NOW)
    log.flush()
    rows = _rows(store)
    assert len(rows) == 2
    assert len({row.subject for row in rows}) == 1
    assert told.counts == {"written": 3, "forgotten": 1}
    with store.reading() as session:
        assert session.execute(select(Pseudonym.source_id)).scalars().all() == [BEN.source_id]


def test_who_is_deleted_while_his_answers_are_written_is_gone_in_the_end(store: Store) -> None:
    crowd = [Who("made-up", number) for number in range(1, 41)]
    log, told = _log(store)
    for _ in range(5):
        log.note(_noted(*(who.pair for who in crowd)))
    together = threading.Barrier(2)

    def forget() -> None:
        together.wait()
        for who in crowd:
            with store.writing() as session:
                people.forget_user(session, who, NOW)

    leaving = threading.Thread(target=forget)
    leaving.start()
    together.wait()
    log.flush()
    leaving.join()
    assert _rows(store) == []
    with store.reading() as session:
        assert session.execute(select(func.count()).select_from(Pseudonym)).scalar_one() == 0
    assert sum(told.counts.values()) == 200


def test_more_than_fits_is_dropped_and_counted_and_nobody_waits(store: Store) -> None:
    log, told = _log(store, room=3)
    log.note(_noted(ANN.pair, BEN.pair))
    log.note(_noted(ANN.pair, BEN.pair))
    log.note(_noted(None))
    log.flush()
    assert told.counts == {"no_room": 2, "written": 3}
    log.note(_noted(ANN.pair, BEN.pair, None))
    log.flush()
    assert told.counts == {"no_room": 2, "written": 6}


def test_while_the_store_is_away_answers_wait_and_what_waits_at_the_end_is_counted(store: Store) -> None:
    log, told = _log(Store("postgresql://nobody@127.0.0.1:9/none"), room=2)
    log.note(_noted(ANN.pair))
    log.flush()
    log.note(_noted(BEN.pair))
    log.note(_noted(BEN.pair))
    assert told.counts == {"no_room": 1}
    log.stop()
    assert told.counts == {"no_room": 1, "unwritten": 2}
    with pytest.raises(StoreUnavailable), Store("postgresql://nobody@127.0.0.1:9/none").reading():
        pass


def test_rows_that_the_store_never_takes_are_counted_and_the_next_are_written(store: Store) -> None:
    log, told = _log(store)
    broken = _noted(ANN.pair)
    broken.answers[0].provenance.model_version = None  # type: ignore[assignment]
    log.note(broken)
    for _ in range(BATCH):
        log.note(_noted(BEN.pair))
    log.flush()
    assert told.counts == {"refused": BATCH, "written": 1}
    log.note(_noted(BEN.pair))
    log.flush()
    assert told.counts["written"] == 2


def test_the_thread_writes_by_itself_and_stopping_writes_the_rest(store: Store) -> None:
    log, told = _log(store, every_s=0.01)
    written = threading.Event()
    log._tell = lambda outcome, count: (told(outcome, count), written.set())[0]
    log.start()
    log.note(_noted(ANN.pair))
    assert written.wait(30)
    log.note(_noted(ANN.pair))
    log.stop()
    assert told.counts == {"written": 2}
    assert len(_rows(store)) == 2


def test_old_answers_go_and_newer_ones_stay(store: Store) -> None:
    row = {
        "request_id": "r", "route": "recommend", "model_version": "v", "data_snapshot": "{}", "latency_ms": 1.0,
        "movie_keys": "[]", "scores": "[]",
    }  # fmt: skip
    with store.writing() as session:
        keep_answers(
            session,
            [AnswerRow(None, {**row, "answered_at": NOW - age}) for age in (KEEP * 2, KEEP, timedelta(days=1))],
        )
    with store.writing() as session:
        assert forget_old_answers(session, NOW - KEEP) == 1
        assert forget_old_answers(session, NOW - KEEP) == 0
    assert [NOW - row.answered_at for row in _rows(store)] == [KEEP, timedelta(days=1)]


def test_a_store_of_before_gives_its_people_the_keys_that_they_have_in_the_event_log(store_url: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    from bento.store.database import _MIGRATIONS

    made = Store(store_url)
    made.migrate()
    with made.writing() as session:
        ann = people.adopt_user(session, ANN, NOW).id
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with made._writing_engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "r0002")
        command.upgrade(config, "head")
        subject = connection.execute(text("SELECT subject FROM subjects WHERE user_ref = :ann"), {"ann": ann}).scalar()
        kept = connection.execute(text("SELECT subject, source, source_id FROM pseudonyms")).all()
    made.close()
    assert [tuple(row) for row in kept] == [(subject, ANN.source, ANN.source_id)]
