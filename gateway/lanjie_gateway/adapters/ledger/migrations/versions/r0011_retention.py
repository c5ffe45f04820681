"""How far the retention of inquiry records is carried out, and which records are held beyond it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_table(
        "retention",
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("position", _ID, nullable=False),
        sa.PrimaryKeyConstraint("rule", name="pk_retention"),
    )
    op.create_table(
        "record_held",
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("tree_index", _ID, nullable=False),
        sa.PrimaryKeyConstraint("rule", "tree_index", name="pk_record_held"),
        sqlite_with_rowid=False,
    )
