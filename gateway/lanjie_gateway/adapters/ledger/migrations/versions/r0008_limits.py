"""What departments ask about natural persons, by day: for the measure of what is usual, and what was tripped today."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_table(
        "limit_day",
        sa.Column("department", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("off_hours", sa.Integer(), nullable=False),
        sa.Column("hours", sa.JSON(), nullable=False),
        sa.Column("trips", sa.JSON(), nullable=False),
        sa.Column("lifted_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("department", "day", name="pk_limit_day"),
    )
