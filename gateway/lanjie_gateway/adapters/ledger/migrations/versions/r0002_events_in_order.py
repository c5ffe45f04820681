"""Events of a commit in their order from the index alone.

PostgreSQL would walk all events in order to find those of one commit: it takes a commit's events to be spread evenly.
And an epoch may be the seconds of a restore, which leave 32 bits with a sign in 2038.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_index("ix_event_batch_id_seq", "event", ["batch_id", "seq"], unique=False)
    op.drop_index("ix_event_batch_id", table_name="event")
    # SQLite's integers have 64 bits anyway.
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("head", "epoch", type_=sa.BigInteger(), existing_nullable=False)
