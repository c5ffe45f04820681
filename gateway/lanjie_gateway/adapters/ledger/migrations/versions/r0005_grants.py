"""Grants: which department may ask what."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_table(
        "grant_act",
        sa.Column("id", _ID, nullable=False),
        sa.Column("department", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("base", _ID, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("second", sa.String()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("brought_at", _ID, nullable=False),
        sa.Column("settled_at", _ID),
        sa.Column("declined_reason", sa.String()),
        sa.Column("batch_id", _ID),
        sa.PrimaryKeyConstraint("id", name="pk_grant_act"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_grant_act_department", "grant_act", ["department"], unique=False)
