"""The log of served answers, and the keys that people have in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision = "r0002"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables; who has a key in the event log keeps it."""
    op.create_table(
        "pseudonyms",
        sa.Column("subject", sa.String(32), primary_key=True),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("source_id", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("source", "source_id"),
    )
    op.execute(
        "INSERT INTO pseudonyms (subject, source, source_id)"
        " SELECT s.subject, u.source, u.source_id FROM subjects AS s JOIN users AS u ON u.id = s.user_ref"
    )
    op.create_table(
        "answers",
        sa.Column("answer_id", _ID, primary_key=True, autoincrement=True),
        sa.Column("answered_at", _MOMENT, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("route", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(32), sa.ForeignKey("pseudonyms.subject", ondelete="CASCADE")),
        sa.Column("model_version", sa.String(200), nullable=False),
        sa.Column("data_snapshot", sa.Text, nullable=False),
        sa.Column("experiment", sa.String(100)),
        sa.Column("arm", sa.String(20)),
        sa.Column("fallback", sa.String(40)),
        sa.Column("latency_ms", sa.Float, nullable=False),
        sa.Column("overlap", sa.Float),
        sa.Column("movie_keys", sa.Text, nullable=False),
        sa.Column("scores", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_answers_answered_at", "answers", ["answered_at"])
    op.create_index("ix_answers_subject", "answers", ["subject"])


def downgrade() -> None:
    """Remove the log."""
    op.drop_table("answers")
    op.drop_table("pseudonyms")
