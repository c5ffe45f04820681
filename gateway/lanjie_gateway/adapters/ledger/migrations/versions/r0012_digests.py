"""Listings by view digest: whoever takes the records of local passes asks for their subjects."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_THERE = sa.text("other_digest IS NOT NULL")


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_index("ix_listing_key_view_digest", "listing_key", ["view_digest"])
    # After a rotation the digests stand in one column and those before them in the other; until then there are none.
    op.create_index(
        "ix_listing_key_other_digest", "listing_key", ["other_digest"], sqlite_where=_THERE, postgresql_where=_THERE
    )
