"""How many of the persons that a department asks about are usually found."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to the newer schema."""
    op.add_column("limit_day", sa.Column("rate", sa.Float(), nullable=True))
