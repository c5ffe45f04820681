"""Clocks of the law, acts of two persons, the age of sources, years of working days, signatures of measure lists."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    op.add_column("listing", sa.Column("corrected", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("event", sa.Column("detail", sa.JSON(), nullable=True))
    op.add_column("event", sa.Column("second", sa.String(), nullable=True))
    op.add_column("edition", sa.Column("signature", sa.LargeBinary(), nullable=True))
    op.add_column("edition", sa.Column("signer", sa.String(), nullable=True))
    _duties()
    _proposals()
    op.create_table(
        "delivery",
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("list_type", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("vouched_on", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "list_type", "source", name="pk_delivery"),
    )
    op.create_index(
        "ix_delivery_list_type_source_vouched_on", "delivery", ["list_type", "source", "vouched_on"], unique=False
    )
    op.create_table(
        "year_file",
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("notice", sa.String(length=64), nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("published_at", _ID, nullable=False),
        sa.Column("signature", sa.LargeBinary()),
        sa.Column("signer", sa.String()),
        sa.PrimaryKeyConstraint("batch_id", name="pk_year_file"),
    )


def _duties() -> None:
    op.create_table(
        "duty",
        sa.Column("id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("started_on", sa.Integer(), nullable=False),
        sa.Column("opened_by", _ID, nullable=False),
        sa.Column("closed_by", _ID),
        sa.PrimaryKeyConstraint("id", name="pk_duty"),
    )
    op.create_index("ix_duty_listing_id", "duty", ["listing_id"], unique=False)
    still_open = sa.text("closed_by IS NULL")
    op.create_index("ix_duty_open", "duty", ["rule"], sqlite_where=still_open, postgresql_where=still_open)
    # Objections that are open have their clock too; days are counted as in `datetime.date.toordinal`, in Shanghai.
    op.execute(
        "INSERT INTO duty (listing_id, rule, started_on, opened_by) "
        "SELECT listing_id, 'objection-reply', (effective_at / 1000000 + 28800) / 86400 + 719163, batch_id FROM event "
        "WHERE kind = 'objection_opened' AND NOT EXISTS (SELECT 1 FROM event AS later "
        "WHERE later.listing_id = event.listing_id AND later.seq > event.seq "
        "AND later.kind IN ('objection_closed', 'annulled'))"
    )


def _proposals() -> None:
    op.create_table(
        "proposal",
        sa.Column("id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("base_content", sa.LargeBinary(length=16), nullable=False),
        sa.Column("effective_at", _ID),
        sa.Column("detail", sa.JSON()),
        sa.Column("packed", sa.LargeBinary()),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("wrapped_key", sa.LargeBinary()),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("proposed_at", _ID, nullable=False),
        sa.Column("settled_by", sa.String()),
        sa.Column("settled_at", _ID),
        sa.Column("settled_reason", sa.String()),
        sa.Column("revision", _ID),
        sa.PrimaryKeyConstraint("id", name="pk_proposal"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_proposal_listing_id", "proposal", ["listing_id"], unique=False)
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_proposal_waiting", "proposal", ["id"], sqlite_where=waiting, postgresql_where=waiting)
