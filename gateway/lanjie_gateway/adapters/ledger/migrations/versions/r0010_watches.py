"""Watches, the passes that are looked back at, and alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TOKEN = sa.LargeBinary(length=16)


def upgrade() -> None:
    """Go to the newer schema."""
    _watches()
    _passes()
    _alerts()


def _watches() -> None:
    op.create_table(
        "watch",
        sa.Column("id", _ID, nullable=False),
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("id_kind", sa.String(length=32), nullable=False),
        sa.Column("subject_token", _TOKEN, nullable=False),
        sa.Column("bucket", _TOKEN, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("case_no", sa.String(), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("from_on", sa.Integer(), nullable=False),
        sa.Column("until_on", sa.Integer(), nullable=False),
        sa.Column("made_at", _ID, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("looked", sa.Boolean(), nullable=False),
        sa.Column("ended_at", _ID),
        sa.PrimaryKeyConstraint("id", name="pk_watch"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_watch_bucket", "watch", ["bucket"], unique=False)
    op.create_index(
        "ix_watch_department_subject_token_matter_case_no",
        "watch",
        ["department", "subject_token", "matter", "case_no"],
        unique=False,
    )
    op.create_index(
        "ix_watch_new",
        "watch",
        ["id"],
        unique=False,
        sqlite_where=sa.text("NOT looked"),
        postgresql_where=sa.text("NOT looked"),
    )
    op.create_table(
        "watch_listing",
        sa.Column("watch_id", _ID, nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("watch_id", "listing_id", name="pk_watch_listing"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "watch_position",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("seq", _ID, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("looking_at", _ID),
        sa.Column("looked", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_watch_position"),
    )


def _passes() -> None:
    op.create_table(
        "begins_later",
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("day", "listing_id", name="pk_begins_later"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "passed",
        sa.Column("subject_key", _TOKEN, nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("generation", _ID, nullable=False),
        sa.Column("decided_at", _ID, nullable=False),
        sa.Column("looked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("subject_key", "decision_id", "kind", name="pk_passed"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_passed_decided_at", "passed", ["decided_at"], unique=False)
    op.create_index("ix_passed_generation", "passed", ["generation"], unique=False)
    op.create_index(
        "ix_passed_new",
        "passed",
        ["decided_at"],
        unique=False,
        sqlite_where=sa.text("NOT looked"),
        postgresql_where=sa.text("NOT looked"),
    )
    op.create_table(
        "closed_case",
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("case_no", sa.String(), nullable=False),
        sa.Column("closed_at", _ID, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("department", "matter", "case_no", name="pk_closed_case"),
    )


def _alerts() -> None:
    op.create_table(
        "alert",
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("number", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("watch_id", _ID, nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("bucket", _TOKEN, nullable=False),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("case_no", sa.String(), nullable=False),
        sa.Column("listing_id", _ID, nullable=False),
        sa.Column("list_type", sa.String(length=64), nullable=False),
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("decision_no", sa.String(), nullable=False),
        sa.Column("outcome_before", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("objection", sa.Boolean(), nullable=False),
        sa.Column("revision", _ID, nullable=False),
        sa.Column("made_at", _ID, nullable=False),
        sa.Column("acknowledged_at", _ID),
        sa.PrimaryKeyConstraint("department", "number", name="pk_alert"),
    )
    op.create_index("ix_alert_acknowledged_at", "alert", ["acknowledged_at"], unique=False)
    op.create_index(
        "uq_alert_pass",
        "alert",
        ["decision_id", "department", "listing_id"],
        unique=True,
        sqlite_where=sa.text("watch_id = 0"),
        postgresql_where=sa.text("watch_id = 0"),
    )
    op.create_index(
        "uq_alert_watch",
        "alert",
        ["watch_id", "listing_id", "revision", "kind", "made_at"],
        unique=True,
        sqlite_where=sa.text("watch_id > 0"),
        postgresql_where=sa.text("watch_id > 0"),
    )
    op.create_table(
        "alert_head",
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("number", _ID, nullable=False),
        sa.PrimaryKeyConstraint("department", name="pk_alert_head"),
    )
