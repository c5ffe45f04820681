"""Generations of the view key, and listings that time has taken out of the view.

Digests under the newest key stand in one of two columns by turns; the other takes those of the next key. Until now the
view key was named by the epoch, so an existing ledger's generation is its epoch.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    op.add_column("head", sa.Column("generation", _ID, nullable=True))
    op.execute("UPDATE head SET generation = epoch")
    with op.batch_alter_table("head") as head:
        head.alter_column("generation", existing_type=_ID, nullable=False)
    op.add_column("head", sa.Column("view_slot", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("head", sa.Column("other_generation", _ID, nullable=True))
    op.add_column("head", sa.Column("view_check", sa.LargeBinary(), nullable=True))
    op.add_column("listing_key", sa.Column("other_digest", _ID, nullable=True))
    op.add_column("staged_key", sa.Column("other_digest", _ID, nullable=True))
    op.add_column("listing", sa.Column("pruned", sa.Boolean(), server_default=sa.false(), nullable=False))
