"""The first schema: listings with their events, imports, catalogues, inquiry records."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    _commits()
    _listings()
    _imports()
    _catalogues_and_inquiries()


def _commits() -> None:
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("lineage", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("token_algorithm", sa.String(length=32), nullable=False),
        sa.Column("key_check", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_head"),
    )
    op.create_table(
        "batch",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("begun_at", _ID, nullable=False),
        sa.Column("base_revision", _ID, nullable=False),
        sa.Column("inserts", sa.Boolean(), nullable=False),
        sa.Column("revision", _ID),
        sa.Column("committed_at", _ID),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
        sa.UniqueConstraint("revision", name="uq_batch_revision"),
        sqlite_autoincrement=True,
    )


def _listings() -> None:
    op.create_table(
        "listing",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("changed_by", _ID, nullable=False),
        sa.Column("natural_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.Column("list_type", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("source_version", sa.String(length=64), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("annulled", sa.Boolean(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("wrapped_key", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_listing"),
        sa.UniqueConstraint("natural_key", "batch_id", name="uq_listing_natural_key_batch_id"),
    )
    op.create_index(
        "ix_listing_list_type_source_ended_batch_id",
        "listing",
        ["list_type", "source", "ended", "batch_id"],
        unique=False,
    )
    op.create_table(
        "listing_key",
        sa.Column("bucket", sa.LargeBinary(length=16), nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("view_digest", _ID),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "listing_id", name="pk_listing_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_listing_key_listing_id", "listing_key", ["listing_id"], unique=False)
    op.create_table(
        "event",
        sa.Column("seq", _ID, nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("effective_at", _ID),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
    )
    op.create_index("ix_event_batch_id", "event", ["batch_id"], unique=False)
    op.create_index("ix_event_listing_id", "event", ["listing_id"], unique=False)


def _imports() -> None:
    op.create_table(
        "staged_change",
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("line", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("base_changed_by", _ID, nullable=False),
        sa.Column("base_content", sa.LargeBinary(length=16), nullable=False),
        sa.Column("content", sa.LargeBinary(length=16), nullable=False),
        sa.Column("list_type", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("source_version", sa.String(length=64), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("wrapped_key", sa.LargeBinary()),
        sa.Column("effective_at", _ID),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("batch_id", "listing_id", name="pk_staged_change"),
    )
    op.create_table(
        "staged_key",
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("bucket", sa.LargeBinary(length=16), nullable=False),
        sa.Column("view_digest", _ID),
        sa.PrimaryKeyConstraint("batch_id", "listing_id", "bucket", name="pk_staged_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "seen",
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "listing_id", name="pk_seen"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quarantine",
        sa.Column("id", _ID, nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("line", _ID, nullable=False),
        sa.Column("column_name", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_batch_id", "quarantine", ["batch_id"], unique=False)
    op.create_table(
        "receipt",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("list_type", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("importer", sa.String(), nullable=False),
        sa.Column("confirmer", sa.String()),
        sa.Column("received_at", _ID, nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_receipt"),
    )
    op.create_index(
        "uq_receipt_file",
        "receipt",
        ["sha256", "mode", "list_type", "source"],
        unique=True,
        sqlite_where=sa.text("state IN ('committed', 'waiting')"),
        postgresql_where=sa.text("state IN ('committed', 'waiting')"),
    )


def _catalogues_and_inquiries() -> None:
    op.create_table(
        "edition",
        sa.Column("catalogue_id", sa.String(length=64), nullable=False),
        sa.Column("edition", sa.String(length=64), nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("published_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("catalogue_id", "edition", name="pk_edition"),
    )
    op.create_table(
        "inquiry",
        sa.Column("id", _ID, nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("sequence", _ID, nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("decided_at", _ID, nullable=False),
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject_token", sa.LargeBinary(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inquiry"),
        sa.UniqueConstraint("source", "sequence", name="uq_inquiry_source_sequence"),
    )
    op.create_index("ix_inquiry_decision_id", "inquiry", ["decision_id"], unique=False)
    op.create_table(
        "inquiry_source",
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("position", _ID, nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_inquiry_source"),
    )
