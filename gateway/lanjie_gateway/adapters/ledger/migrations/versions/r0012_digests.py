"""Listings by view digest: whoever takes the records of local passes asks for their subjects."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_index("ix_listing_key_view_digest", "listing_key", ["view_digest"])
    op.create_index("ix_listing_key_other_digest", "listing_key", ["other_digest"])
