"""What the app's store can be asked and told, one function an act, inside a session of ``Store``.

They know nothing of HTTP and of the served model. The moment of a write is given, never looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    CompoundSelect,
    Float,
    bindparam,
    cast,
    delete,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session

from bento.errors import ServingError
from bento.store.served_lists import Name, subjects_of, wait_for_others
from bento.store.tables import (
    APP,
    FIRST_APP_USER_ID,
    Event,
    Pseudonym,
    Rating,
    Subject,
    Suppressed,
    User,
    UserNumber,
    UtcDateTime,
)
from bento.store.user_state import AppHistory


class NoSuchUser(ServingError):
    """Nobody of this name is known here."""


class Forgotten(ServingError):
    """A person who was deleted and may not come back under the same name."""


@dataclass(frozen=True, slots=True)
class Who:
    """A person's name: ``app`` or an edition, and the number there."""

    source: str
    source_id: int

    @property
    def pair(self) -> Name:
        """The name as a plain pair."""
        return self.source, self.source_id

    @classmethod
    def of(cls, user_id: int, edition: str) -> Who:
        """Return the person that the API's ``user_id`` means where this edition is served."""
        return cls(APP, user_id) if user_id >= FIRST_APP_USER_ID else cls(edition, user_id)


def create_user(session: Session, name: str | None, now: datetime) -> User:
    """Create a user of the app, with an id that nobody had before."""
    number = UserNumber()
    session.add(number)
    session.flush()
    return _add_user(session, Who(APP, FIRST_APP_USER_ID + number.number), name, now)


def adopt_user(session: Session, who: Who, now: datetime) -> User:
    """Return the row of a user of the edition, made at their first write; raise ``Forgotten`` for a deleted one."""
    wait_for_others(session, who.pair)
    found = find_user(session, who, lock=True)
    if found is not None:
        return found
    if is_forgotten(session, who):
        raise Forgotten(f"user {who.source_id} was deleted")
    if who.source == APP:
        raise NoSuchUser(f"there is no user {who.source_id}")
    return _add_user(session, who, None, now)


def find_user(session: Session, who: Who, *, lock: bool = False) -> User | None:
    """Return the row of a person, None if there is none; ``lock`` makes other writers of that row wait."""
    query = select(User).where(User.source == who.source, User.source_id == who.source_id)
    return session.execute(query.with_for_update() if lock else query).scalar_one_or_none()


def is_forgotten(session: Session, who: Who) -> bool:
    """Whether a person asked to be forgotten."""
    return session.get(Suppressed, (who.source, who.source_id)) is not None


def rename_user(session: Session, user: User, name: str | None, now: datetime) -> User:
    """Change what a person is called."""
    user.name, user.updated_at = name, now
    user.version = _note(session, user, "user_changed", now)
    return user


def forget_user(session: Session, who: Who, now: datetime) -> None:
    """Destroy a person's row, mapping, ratings and answers, and put the name on the suppression list.

    His events stay and are nobody's: no row tells any more whose key they carry.
    """
    wait_for_others(session, who.pair)
    session.execute(delete(User).where(User.source == who.source, User.source_id == who.source_id))
    session.execute(delete(Pseudonym).where(Pseudonym.source == who.source, Pseudonym.source_id == who.source_id))
    if not is_forgotten(session, who):
        session.add(Suppressed(source=who.source, source_id=who.source_id, suppressed_at=now))


def find_rating(session: Session, user: User, movie_key: int) -> Rating | None:
    """Return the rating that a user gives a movie, None if there is none."""
    return session.get(Rating, (user.id, movie_key))


def rate(
    session: Session,
    user: User,
    *,
    movie_key: int,
    edition: str,
    movie_id: int,
    rating: float,
    rated_at: datetime,
    now: datetime,
) -> Rating:
    """Add a rating or change the one there is."""
    version = _note(session, user, "rated", rated_at, now, movie_key, rating)
    found = find_rating(session, user, movie_key)
    if found is None:
        found = Rating(user_ref=user.id, movie_key=movie_key, created_at=now)
        session.add(found)
    found.edition, found.movie_id, found.rating = edition, movie_id, rating
    found.rated_at, found.updated_at, found.version = rated_at, now, version
    session.flush()
    return found


def delete_rating(session: Session, user: User, rating: Rating, now: datetime) -> None:
    """Take a rating back."""
    _note(session, user, "rating_deleted", now, movie_key=rating.movie_key)
    session.delete(rating)


def list_ratings(session: Session, user: User, *, before: int | None, limit: int) -> Sequence[Rating]:
    """Return a user's ratings, the last written first; with ``before`` only those written before that version."""
    query = select(Rating).where(Rating.user_ref == user.id).order_by(Rating.version.desc()).limit(limit)
    return session.execute(query if before is None else query.where(Rating.version < before)).scalars().all()


def log_event(
    session: Session, user: User, kind: str, *, movie_key: int | None, happened_at: datetime, now: datetime
) -> int:
    """Note what the app saw happen; returns the number of the event."""
    return _note(session, user, kind, happened_at, now, movie_key)


def app_history(session: Session, who: Who) -> AppHistory:
    """All that the store says of a person that an answer depends on."""
    return app_histories(session, [who])[0]


def app_histories(session: Session, whos: Sequence[Who]) -> list[AppHistory]:
    """Likewise of several people, in their order: one question to the store, however many they are."""
    known: set[tuple[str, int]] = set()
    forgotten: set[tuple[str, int]] = set()
    ratings: dict[tuple[str, int], list[tuple[int, float]]] = {}
    rated_at: dict[tuple[str, int], list[int]] = {}
    dismissed: dict[tuple[str, int], list[int]] = {}
    names = list({(who.source, who.source_id) for who in whos})
    # Past the session: its objects would cost more than the reading, and every recommendation reads this.
    for what, source, source_id, movie, stars, _, moment in session.connection().execute(_HISTORIES, {"names": names}):
        name = (source, source_id)
        if what == _KNOWN:
            known.add(name)
        elif what == _RATED:
            ratings.setdefault(name, []).append((movie, float(stars)))
            rated_at.setdefault(name, []).append(int(moment.timestamp()))
        elif what == _DISMISSED:
            dismissed.setdefault(name, []).append(movie)
        else:
            forgotten.add(name)

    def history(name: tuple[str, int]) -> AppHistory:
        if name not in known:
            return AppHistory(forgotten=name in forgotten)
        return AppHistory(
            known=True,
            ratings=tuple(ratings.get(name, ())),
            dismissed=tuple(dismissed.get(name, ())),
            rated_at=tuple(rated_at.get(name, ())),
        )

    return [history((who.source, who.source_id)) for who in whos]


#: What a row of :data:`_HISTORIES` says of a person.
_KNOWN, _RATED, _DISMISSED, _FORGOTTEN = range(4)


def _histories() -> CompoundSelect[Any]:
    """Rows (what, source, source_id, movie_key, stars, version, rated_at) of the people of ``names``, in that order.

    Made once: to write the question down again each time takes SQLAlchemy longer than SQLite takes to answer it.
    """
    names: BindParameter[Any] = bindparam("names", expanding=True)
    no_number, no_stars, no_time = cast(null(), BigInteger), cast(null(), Float), cast(null(), UtcDateTime)
    meant = (
        select(User.id, User.source, User.source_id, Subject.subject)
        .join(Subject, Subject.user_ref == User.id)
        .where(tuple_(User.source, User.source_id).in_(names))
        .cte("meant")
    )
    who = meant.c.source, meant.c.source_id
    sent_away = (
        select(literal_column(str(_DISMISSED)), *who, Event.movie_key, no_stars, no_number, no_time)
        .join(meant, Event.subject == meant.c.subject)
        .where(Event.kind == "dismissed", Event.movie_key.is_not(None))
        .distinct()
    )
    return union_all(
        select(
            *(literal_column(str(_KNOWN)).label("what"), *who, no_number, no_stars),
            *(no_number.label("version"), no_time.label("rated_at")),
        ),
        select(
            *(literal_column(str(_RATED)), *who, Rating.movie_key, cast(Rating.rating, Float)),
            *(Rating.version, Rating.rated_at),
        ).join(meant, Rating.user_ref == meant.c.id),
        sent_away,
        select(
            literal_column(str(_FORGOTTEN)),
            Suppressed.source,
            Suppressed.source_id,
            no_number,
            no_stars,
            no_number,
            no_time,
        ).where(tuple_(Suppressed.source, Suppressed.source_id).in_(names)),
    ).order_by("what", "version")


_HISTORIES = _histories()


def _add_user(session: Session, who: Who, name: str | None, now: datetime) -> User:
    user = User(source=who.source, source_id=who.source_id, name=name, created_at=now, updated_at=now, version=0)
    session.add(user)
    session.flush()
    session.add(Subject(subject=subjects_of(session, [who.pair])[who.pair], user_ref=user.id))
    session.flush()
    user.version = _note(session, user, "user_created", now)
    return user


def _note(
    session: Session,
    user: User,
    kind: str,
    happened_at: datetime,
    now: datetime | None = None,
    movie_key: int | None = None,
    rating: float | None = None,
) -> int:
    """Add an event of a user to the log; returns its number."""
    subject = session.execute(select(Subject.subject).where(Subject.user_ref == user.id)).scalar_one()
    event = Event(
        subject=subject,
        kind=kind,
        movie_key=movie_key,
        rating=rating,
        happened_at=happened_at,
        recorded_at=now or happened_at,
    )
    session.add(event)
    session.flush()
    return event.event_id
