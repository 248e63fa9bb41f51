"""Keys to log in with, and the logins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("hash", sa.String(200), nullable=False),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("user_ref", _ID, sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("label", sa.String(100)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.CheckConstraint(
            "(role = 'user' AND user_ref IS NOT NULL) OR (role IN ('app', 'admin') AND user_ref IS NULL)",
            name="a_users_key_has_a_user",
        ),
    )
    op.create_index("ix_api_keys_user_ref", "api_keys", ["user_ref"])
    op.create_table(
        "logins",
        sa.Column("login_id", sa.String(32), primary_key=True),
        sa.Column("key_id", sa.String(16), sa.ForeignKey("api_keys.key_id", ondelete="CASCADE"), nullable=False),
        sa.Column("refresh_hash", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
    )
    op.create_index("ix_logins_key_id", "logins", ["key_id"])
    op.create_index("ix_logins_expires_at", "logins", ["expires_at"])


def downgrade() -> None:
    """Remove both tables."""
    op.drop_table("logins")
    op.drop_table("api_keys")
