from __future__ import annotations

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from bento.store import idempotency
from bento.store import users as people
from bento.store.database import Store, StoreUnavailable
from bento.store.tables import APP, FIRST_APP_USER_ID, Base, Event, IdempotencyKey, Rating, Subject, User
from bento.store.users import Forgotten, NoSuchUser, Who
from settings import PROJECT_ROOT

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
ANN = Who("ml-100k", 7)


def _rate(session: Session, user: User, movie_key: int, rating: float, at: datetime = NOW) -> Rating:
    return people.rate(
        session, user, movie_key=movie_key, edition="ml-100k", movie_id=movie_key, rating=rating, rated_at=at, now=at
    )


def test_the_migrations_make_exactly_the_tables_of_the_models(store_url: str) -> None:
    Store(store_url).migrate()
    engine = create_engine(make_url(store_url.replace("postgresql://", "postgresql+psycopg://")))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_migrating_again_and_at_once_from_several_processes_changes_nothing(store_url: str) -> None:
    code = "import sys; from bento.store.database import Store; Store(sys.argv[1]).migrate()"
    started = [subprocess.Popen([sys.executable, "-c", code, store_url], cwd=PROJECT_ROOT) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    store = Store(store_url)
    store.migrate()
    with store.writing() as session:
        assert people.create_user(session, "Ann", NOW).source_id == FIRST_APP_USER_ID + 1
    store.close()


def test_a_rating_out_of_the_scale_is_refused_by_the_database_itself(store: Store) -> None:
    with store.writing() as session:
        user_id = people.create_user(session, None, NOW).id
    # PostgreSQL rounds to one digit first, and judges 4.25 as 4.3: refused all the same.
    for rating in (0.0, 0.4, 5.5, 3.7, 4.25, -1.0):
        with pytest.raises(DBAPIError), store.writing() as session:
            _rate(session, session.get_one(User, user_id), 1, rating)
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Rating)) == 0


def test_every_half_step_is_kept_as_it_is(store: Store) -> None:
    steps = [half / 2 for half in range(1, 11)]
    with store.writing() as session:
        user = people.create_user(session, None, NOW)
        for key, stars in enumerate(steps):
            _rate(session, user, key, stars)
    with store.reading() as session:
        assert [stars for _, stars in people.app_history(session, Who(APP, user.source_id)).ratings] == steps


def test_a_history_says_when_each_movie_was_rated_by_the_apps_own_word(store: Store) -> None:
    times = [NOW - timedelta(days=days) for days in (1, 400, 0)]
    with store.writing() as session:
        user = people.create_user(session, None, NOW)
        for key, moment in enumerate(times):
            _rate(session, user, key, 4.0, at=moment)
    with store.reading() as session:
        history = people.app_history(session, Who(APP, user.source_id))
    assert history.ratings == ((0, 4.0), (1, 4.0), (2, 4.0))
    assert history.rated_at == tuple(int(moment.timestamp()) for moment in times)


def test_a_rating_of_nobody_is_refused(store: Store) -> None:
    with pytest.raises(IntegrityError), store.writing() as session:
        session.add(
            Rating(
                user_ref=99, movie_key=1, edition="x", movie_id=1, rating=3.0, rated_at=NOW, created_at=NOW,
                updated_at=NOW, version=1,
            )
        )  # fmt: skip


def test_the_event_log_refuses_changes_and_deletions(store: Store) -> None:
    with store.writing() as session:
        people.create_user(session, None, NOW)
    for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
        with pytest.raises(DBAPIError, match="append-only"), store.writing() as session:
            session.execute(text(statement))
    with store.reading() as session:
        assert session.scalars(select(Event.kind)).all() == ["user_created"]


def test_what_a_failed_transaction_did_is_not_kept(store: Store) -> None:
    def fail_half_way() -> None:
        with store.writing() as session:
            people.create_user(session, "Ann", NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 0


def test_somebody_of_the_edition_is_adopted_once_however_many_write_at_once(store: Store) -> None:
    def write(movie_key: int) -> int:
        with store.writing() as session:
            user = people.adopt_user(session, ANN, NOW)
            _rate(session, user, movie_key, 4.0)
            return user.id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(write, range(24)))
    assert len(ids) == 1
    with store.reading() as session:
        assert len(people.app_history(session, ANN).ratings) == 24
        assert session.scalar(select(func.count()).select_from(Subject)) == 1


def test_who_is_deleted_while_he_writes_has_written_before_or_not_at_all(store: Store) -> None:
    def write(movie_key: int) -> None:
        with contextlib.suppress(Forgotten), store.writing() as session:
            _rate(session, people.adopt_user(session, ANN, NOW), movie_key, 4.0)

    def forget(_: int) -> None:
        with store.writing() as session:
            people.forget_user(session, ANN, NOW)

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(forget if place == 5 else write, place) for place in range(24)]
    for each in done:
        each.result()
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 0
        assert people.app_history(session, ANN).forgotten


def test_the_same_number_in_two_editions_and_the_app_are_three_people(store: Store) -> None:
    assert Who.of(7, "ml-100k") == ANN
    assert Who.of(FIRST_APP_USER_ID, "ml-100k") == Who(APP, FIRST_APP_USER_ID)
    with store.writing() as session:
        _rate(session, people.adopt_user(session, ANN, NOW), 1, 5.0)
    with store.reading() as session:
        assert people.app_history(session, Who("ml-1m", 7)).ratings == ()
        assert people.app_history(session, ANN).ratings == ((1, 5.0),)


def test_an_unknown_user_of_the_app_is_not_invented(store: Store) -> None:
    with pytest.raises(NoSuchUser), store.writing() as session:
        people.adopt_user(session, Who(APP, FIRST_APP_USER_ID + 5), NOW)


def test_a_changed_rating_is_one_row_of_a_new_version_and_two_events(store: Store) -> None:
    with store.writing() as session:
        user = people.create_user(session, None, NOW)
        first = _rate(session, user, 1, 2.0).version
    with store.writing() as session:
        second = _rate(session, session.get_one(User, user.id), 1, 4.5, NOW + timedelta(days=1))
        assert second.version > first
        assert (second.created_at, second.updated_at) == (NOW, NOW + timedelta(days=1))
    with store.reading() as session:
        assert session.execute(select(Event.kind, Event.rating)).all()[1:] == [("rated", 2.0), ("rated", 4.5)]


def test_ratings_are_listed_from_the_last_written_on_page_by_page(store: Store) -> None:
    with store.writing() as session:
        user = people.create_user(session, None, NOW)
        for key in range(5):
            _rate(session, user, key, 3.0)
    with store.reading() as session:
        page = people.list_ratings(session, user, before=None, limit=3)
        rest = people.list_ratings(session, user, before=page[-1].version, limit=3)
        assert [row.movie_key for row in (*page, *rest)] == [4, 3, 2, 1, 0]


def test_forgetting_destroys_mapping_ratings_and_kept_answers_and_leaves_anonymous_events(store: Store) -> None:
    with store.writing() as session:
        user = people.adopt_user(session, ANN, NOW)
        _rate(session, user, 1, 5.0)
        assert idempotency.claim(session, "k", "f", NOW) is None
        idempotency.keep(session, "k", idempotency.Answer(201, {"name": "Ann"}, user_ref=user.id))
    with store.writing() as session:
        people.forget_user(session, ANN, NOW)
        people.forget_user(session, ANN, NOW)
    with store.reading() as session:
        for table in (User, Subject, Rating, IdempotencyKey):
            assert session.scalar(select(func.count()).select_from(table)) == 0
        assert session.scalar(select(func.count()).select_from(Event)) == 2
        history = people.app_history(session, ANN)
    assert (history.known, history.forgotten, history.ratings) == (False, True, ())
    with pytest.raises(Forgotten), store.writing() as session:
        people.adopt_user(session, ANN, NOW)


def test_a_number_of_a_deleted_user_is_never_given_again(store: Store) -> None:
    given = []
    for _ in range(3):
        with store.writing() as session:
            given.append(people.create_user(session, None, NOW).source_id)
        with store.writing() as session:
            people.forget_user(session, Who(APP, given[-1]), NOW)
    assert given == [FIRST_APP_USER_ID + 1, FIRST_APP_USER_ID + 2, FIRST_APP_USER_ID + 3]


def test_a_dismissed_film_stands_in_the_history_once(store: Store) -> None:
    with store.writing() as session:
        user = people.create_user(session, None, NOW)
        for kind, key in (("dismissed", 4), ("dismissed", 4), ("shown", 5), ("dismissed", None)):
            people.log_event(session, user, kind, movie_key=key, happened_at=NOW, now=NOW)
    with store.reading() as session:
        assert people.app_history(session, Who(APP, user.source_id)).dismissed == (4,)


def test_one_key_sent_by_many_at_once_is_one_write(store: Store) -> None:
    def write(_: int) -> int:
        with store.writing() as session:
            kept = idempotency.claim(session, "same", "request", NOW)
            if kept is None:
                kept = idempotency.Answer(201, people.create_user(session, None, NOW).source_id)
                idempotency.keep(session, "same", kept)
            return int(kept.body)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(16))) == {FIRST_APP_USER_ID + 1}


def test_a_key_with_another_request_is_refused_and_an_old_one_is_free_again(store: Store) -> None:
    with store.writing() as session:
        idempotency.claim(session, "k", "one", NOW)
        idempotency.keep(session, "k", idempotency.Answer(204))
    with pytest.raises(idempotency.KeyReused), store.writing() as session:
        idempotency.claim(session, "k", "other", NOW)
    with store.writing() as session:
        assert idempotency.claim(session, "k", "one", NOW + timedelta(hours=23)) == idempotency.Answer(204)
        assert idempotency.claim(session, "k", "other", NOW + timedelta(hours=25)) is None


def test_moments_come_back_in_utc_and_one_without_a_zone_is_refused(store: Store) -> None:
    with store.writing() as session:
        user = people.create_user(session, None, datetime.fromisoformat("2024-05-01T14:00:00+02:00"))
    with store.reading() as session:
        assert session.get_one(User, user.id).created_at == NOW
    with pytest.raises(StatementError, match="no time zone"), store.writing() as session:
        people.create_user(session, None, datetime(2024, 5, 1))


def test_nothing_of_a_deleted_person_is_left_in_the_files_of_sqlite(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.migrate()
    with store.writing() as session:
        user = people.create_user(session, "Zyxwvutsrq Unmistakable", NOW)
        subject = session.scalar(select(Subject.subject).where(Subject.user_ref == user.id))
        assert subject is not None
    found = [path for path in tmp_path.iterdir() if b"Unmistakable" in path.read_bytes()]
    assert found
    with store.writing() as session:
        people.forget_user(session, Who(APP, user.source_id), NOW)
    store.forget_traces()
    assert not [path for path in tmp_path.iterdir() if b"Unmistakable" in path.read_bytes()]
    store.close()


def test_sqlite_keeps_acknowledged_writes_through_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    code = (
        "import sys, os, signal\n"
        "from datetime import UTC, datetime\n"
        "from bento.store import users as people\n"
        "from bento.store.database import Store\n"
        "store = Store(sys.argv[1]); store.migrate()\n"
        "for n in range(1000):\n"
        "    with store.writing() as session:\n"
        "        user = people.create_user(session, None, datetime.now(UTC)).source_id\n"
        "    print(user, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, url], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    store = Store(url)
    store.migrate()
    with store.reading() as session:
        kept = set(session.scalars(select(User.source_id)))
    assert set(acknowledged) <= kept
    # One more may have been written than was said.
    assert len(kept) - len(acknowledged) <= 1
    store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://localhost/x", "not mysql"),
        ("nonsense", "not the URL"),
        ("postgresql://ann:hunter2@127.0.0.1:9/none", "cannot be reached"),
    ],
)
def test_a_store_that_cannot_be_used_says_so_without_its_password(url: str, said: str) -> None:
    with pytest.raises(StoreUnavailable, match=said) as raised:
        Store(url).migrate()
    assert "hunter2" not in str(raised.value)
