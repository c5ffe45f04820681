"""Authorisations of subjects, their uses, complaints; inquiry records by subject."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to the newer schema."""
    op.create_index("ix_inquiry_subject_token_decided_at", "inquiry", ["subject_token", "decided_at"], unique=False)
    op.create_table(
        "authorisation",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("department", sa.String(length=64), nullable=False),
        sa.Column("subject_token", sa.LargeBinary(length=16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("matters", sa.JSON(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("document_no", sa.String(length=128), nullable=False),
        sa.Column("document_date", sa.Integer(), nullable=False),
        sa.Column("document_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("valid_until", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("registered_at", _ID, nullable=False),
        sa.Column("registered_by", sa.String(), nullable=False),
        sa.Column("withdrawn_at", _ID),
        sa.Column("withdrawn_by", sa.String()),
        sa.Column("withdrawn_reason", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_authorisation"),
        sa.UniqueConstraint("department", "document_sha256", name="uq_authorisation_department_document_sha256"),
    )
    op.create_index("ix_authorisation_subject_token", "authorisation", ["subject_token"], unique=False)
    op.create_table(
        "authorisation_use",
        sa.Column("authorisation_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("question", sa.LargeBinary(length=32), nullable=False),
        sa.Column("used_at", _ID, nullable=False),
        sa.Column("used_by", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("authorisation_id", "number", name="pk_authorisation_use"),
    )
    op.create_table(
        "complaint",
        sa.Column("id", _ID, nullable=False),
        sa.Column("subject_token", sa.LargeBinary(length=16), nullable=False),
        sa.Column("about", sa.String(length=128), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", _ID, nullable=False),
        sa.Column("received_by", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(length=16)),
        sa.Column("reply_sealed", sa.LargeBinary()),
        sa.Column("reply_wrapped_key", sa.LargeBinary()),
        sa.Column("accountability", sa.String()),
        sa.Column("closed_at", _ID),
        sa.Column("closed_by", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_complaint"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_complaint_subject_token", "complaint", ["subject_token"], unique=False)
    op.create_index("ix_complaint_about", "complaint", ["about"], unique=False)
