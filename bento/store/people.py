"""What the app's store can be asked and told, one function an act, inside a session of ``Store``.

They know nothing of HTTP and of the served model. The moment of a write is given, never looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from bento.errors import ServingError
from bento.store.history import AppHistory
from bento.store.served import Name, subjects_of, wait_for_others
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
)


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
        """The person that the API's ``user_id`` means where this edition is served."""
        return cls(APP, user_id) if user_id >= FIRST_APP_USER_ID else cls(edition, user_id)


def create_user(session: Session, name: str | None, now: datetime) -> User:
    """A new person of the app, with an id that nobody had before."""
    number = UserNumber()
    session.add(number)
    session.flush()
    return _add_user(session, Who(APP, FIRST_APP_USER_ID + number.number), name, now)


def adopt_user(session: Session, who: Who, now: datetime) -> User:
    """The row of somebody whom the edition knows, made at his first write. ``Forgotten`` for a deleted one."""
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
    """The row of a person, None where there is none; ``lock`` makes other writers of him wait."""
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
    """The rating that a user gives a film, None where there is none."""
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
    """A user's ratings, the last written first, those written before version ``before`` only."""
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
    """Likewise of several people, in their order: four questions to the store, however many they are."""
    names = list({(who.source, who.source_id) for who in whos})
    known = (
        select(User.id, User.source, User.source_id, Subject.subject)
        .join(Subject, Subject.user_ref == User.id)
        .where(tuple_(User.source, User.source_id).in_(names))
    )
    users = {(user.source, user.source_id): user for user in session.execute(known)}
    gone = select(Suppressed.source, Suppressed.source_id).where(
        tuple_(Suppressed.source, Suppressed.source_id).in_([name for name in names if name not in users])
    )
    forgotten = {(row.source, row.source_id) for row in session.execute(gone)} if len(users) < len(names) else set()
    ratings: dict[int, list[tuple[int, float]]] = {user.id: [] for user in users.values()}
    dismissed: dict[str, list[int]] = {user.subject: [] for user in users.values()}
    if users:
        rated = select(Rating.user_ref, Rating.movie_key, Rating.rating).where(Rating.user_ref.in_(list(ratings)))
        for ref, key, stars in session.execute(rated.order_by(Rating.version)):
            ratings[ref].append((key, float(stars)))
        sent_away = select(Event.subject, Event.movie_key).where(
            Event.subject.in_(list(dismissed)), Event.kind == "dismissed", Event.movie_key.is_not(None)
        )
        for subject, movie in session.execute(sent_away.distinct()):
            dismissed[subject].append(movie)

    def history(who: Who) -> AppHistory:
        user = users.get((who.source, who.source_id))
        if user is None:
            return AppHistory(forgotten=(who.source, who.source_id) in forgotten)
        return AppHistory(known=True, ratings=tuple(ratings[user.id]), dismissed=tuple(dismissed[user.subject]))

    return [history(who) for who in whos]


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
