"""Feedback: what departments did about answers with an effect; how many answers there were by month."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_table(
        "feedback",
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("listing_id", sa.String(length=16), nullable=False),
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("region", sa.String(length=6), nullable=False),
        sa.Column("list_type", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("person", sa.Boolean(), nullable=False),
        sa.Column("decided_at", _ID, nullable=False),
        sa.Column("told_at", _ID),
        sa.Column("disposition", sa.String(length=16)),
        sa.Column("told", sa.JSON()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", "listing_id", name="pk_feedback"),
    )
    op.create_index("ix_feedback_told_at_decided_at", "feedback", ["told_at", "decided_at"], unique=False)
    op.create_table(
        "usage",
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("region", sa.String(length=6), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("answers", _ID, nullable=False),
        sa.PrimaryKeyConstraint("month", "department", "matter", "region", "kind", "outcome", name="pk_usage"),
    )
