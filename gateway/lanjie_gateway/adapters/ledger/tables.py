"""Tables of the ledger. Migrations make them; a test holds the two together.

* ``batch`` is the commit: nothing of it is seen until it has a revision. ``head.revision`` counts them without gaps.
* ``event`` is what happened; ``listing`` and ``listing_key`` are its projection. The facts before a correction travel
  as payload of its event, so that every earlier state can be told.
* ``staged_*`` and ``seen`` hold what an import will change, until its commit.
* View digests under the key of ``head.generation`` stand in ``view_digest`` while ``head.view_slot`` is 0, in
  ``other_digest`` while it is 1. The other column holds those of ``head.other_generation``, the one before, while that
  is not null; else nothing of it counts.
* ``listing.pruned``: its term ran out, and it has left the view. It decides nothing.
* ``listing.corrected``: by hand, so that its source may end it but not write over it.
* ``event.detail`` holds what a kind of event says beside reason and document; ``event.second`` who confirmed it.
* ``duty`` holds when a clock of the law began and which commit stopped it; when it is due is computed when asked.
* ``proposal`` is an act that waits for a second person, with what it would change. Nobody sees it in an answer.
* ``delivery`` says up to which day a source vouched for a list type with a commit; the newest counts.
* ``authorisation`` is a subject's; ``authorisation_use`` has each of its uses, so that one whose answer was lost counts
  once. ``complaint`` is a subject's, its text and the reply sealed. All three name the subject by keyed hash.
* ``year_file`` holds the working days of a year; of one year the newest counts.
* ``inquiry.tree_index`` is the place of a record in the hash tree, without gaps from 0, in the order of commits. A
  record whose retention has ended is empty, and keeps place, digest, id, day, department and kind.
* ``record_tree`` is the tree's size and edge; ``record_node`` the roots of its complete subtrees from level 8 on, by
  the number of leaves up to their end. Both follow from the digests. ``checkpoint`` holds signed notes.
* ``retention.position`` is the place up to which records were looked at by a rule, or put into an archive.
  ``record_held`` has those that were to be erased and could not be: something about them is open, or wrong.
* ``inquiry_source.chain`` is the hash of the chain of a spool up to ``position``.

Tokens are keyed hashes (16 bytes), instants microseconds since 1970 UTC.
"""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite gives the row id's speed to INTEGER keys only.
_Id: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Token: Final = sa.LargeBinary(16)

HEAD: Final = sa.Table(
    "head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("lineage", sa.String(32), nullable=False),
    sa.Column("epoch", _Id, nullable=False),
    sa.Column("revision", _Id, nullable=False),
    sa.Column("token_algorithm", sa.String(32), nullable=False),
    sa.Column("key_check", sa.LargeBinary, nullable=False),
    sa.Column("generation", _Id, nullable=False),
    sa.Column("view_slot", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("other_generation", _Id),
    sa.Column("view_check", sa.LargeBinary),
)
BATCH: Final = sa.Table(
    "batch",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("begun_at", _Id, nullable=False),
    sa.Column("base_revision", _Id, nullable=False),
    sa.Column("inserts", sa.Boolean, nullable=False),
    sa.Column("revision", _Id, unique=True),
    sa.Column("committed_at", _Id),
    sqlite_autoincrement=True,
)
LISTING: Final = sa.Table(
    "listing",
    METADATA,
    sa.Column("id", _Id, primary_key=True, autoincrement=False),
    sa.Column("batch_id", _Id, nullable=False),
    sa.Column("changed_by", _Id, nullable=False),
    sa.Column("natural_key", _Token, nullable=False),
    sa.Column("content", _Token, nullable=False),
    sa.Column("list_type", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("source_version", sa.String(64), nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Column("annulled", sa.Boolean, nullable=False),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("wrapped_key", sa.LargeBinary),
    sa.Column("pruned", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("corrected", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("natural_key", "batch_id"),
    sa.Index(None, "list_type", "source", "ended", "batch_id"),
)
LISTING_KEY: Final = sa.Table(
    "listing_key",
    METADATA,
    sa.Column("bucket", _Token, primary_key=True),
    sa.Column("listing_id", _Id, primary_key=True),
    sa.Column("view_digest", _Id),
    sa.Column("current", sa.Boolean, nullable=False),
    sa.Column("other_digest", _Id),
    sa.Index(None, "listing_id"),
    sa.Index(None, "view_digest"),
    sa.Index(
        *(None, "other_digest"),
        sqlite_where=sa.text("other_digest IS NOT NULL"),
        postgresql_where=sa.text("other_digest IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)
EVENT: Final = sa.Table(
    "event",
    METADATA,
    sa.Column("seq", _Id, primary_key=True),
    sa.Column("batch_id", _Id, nullable=False),
    sa.Column("listing_id", _Id, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("effective_at", _Id),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("payload", sa.LargeBinary),
    sa.Column("detail", sa.JSON),
    sa.Column("second", sa.String),
    sa.Index(None, "batch_id", "seq"),
    sa.Index(None, "listing_id"),
)
DUTY: Final = sa.Table(
    "duty",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("listing_id", _Id, nullable=False),
    sa.Column("rule", sa.String(32), nullable=False),
    sa.Column("started_on", sa.Integer, nullable=False),
    sa.Column("opened_by", _Id, nullable=False),
    sa.Column("closed_by", _Id),
    sa.Index(None, "listing_id"),
    sa.Index(
        "ix_duty_open", "rule", sqlite_where=sa.text("closed_by IS NULL"), postgresql_where=sa.text("closed_by IS NULL")
    ),
)
PROPOSAL: Final = sa.Table(
    "proposal",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("listing_id", _Id, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("base_content", _Token, nullable=False),
    sa.Column("effective_at", _Id),
    sa.Column("detail", sa.JSON),
    sa.Column("packed", sa.LargeBinary),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("wrapped_key", sa.LargeBinary),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("proposed_at", _Id, nullable=False),
    sa.Column("settled_by", sa.String),
    sa.Column("settled_at", _Id),
    sa.Column("settled_reason", sa.String),
    sa.Column("revision", _Id),
    sa.Index(None, "listing_id"),
    sa.Index(
        "ix_proposal_waiting",
        "id",
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    ),
    sqlite_autoincrement=True,
)
DELIVERY: Final = sa.Table(
    "delivery",
    METADATA,
    sa.Column("batch_id", _Id, primary_key=True),
    sa.Column("list_type", sa.String(64), primary_key=True),
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("vouched_on", sa.Integer, nullable=False),
    sa.Index(None, "list_type", "source", "vouched_on"),
)
STAGED_CHANGE: Final = sa.Table(
    "staged_change",
    METADATA,
    sa.Column("batch_id", _Id, primary_key=True),
    sa.Column("listing_id", _Id, primary_key=True),
    sa.Column("line", _Id, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("base_changed_by", _Id, nullable=False),
    sa.Column("base_content", _Token, nullable=False),
    sa.Column("content", _Token, nullable=False),
    sa.Column("list_type", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("source_version", sa.String(64), nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("wrapped_key", sa.LargeBinary),
    sa.Column("effective_at", _Id),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("payload", sa.LargeBinary),
)
STAGED_KEY: Final = sa.Table(
    "staged_key",
    METADATA,
    sa.Column("batch_id", _Id, primary_key=True),
    sa.Column("listing_id", _Id, primary_key=True),
    sa.Column("bucket", _Token, primary_key=True),
    sa.Column("view_digest", _Id),
    sa.Column("other_digest", _Id),
    sqlite_with_rowid=False,
)
SEEN: Final = sa.Table(
    "seen",
    METADATA,
    sa.Column("batch_id", _Id, primary_key=True),
    sa.Column("listing_id", _Id, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
QUARANTINE: Final = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("batch_id", _Id, nullable=False),
    sa.Column("line", _Id, nullable=False),
    sa.Column("column_name", sa.String(64), nullable=False),
    sa.Column("rule", sa.String(64), nullable=False),
    sa.Column("message", sa.String, nullable=False),
    sa.Index(None, "batch_id"),
)
RECEIPT: Final = sa.Table(
    "receipt",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("batch_id", _Id, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("list_type", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("file_name", sa.String(255), nullable=False),
    sa.Column("importer", sa.String, nullable=False),
    sa.Column("confirmer", sa.String),
    sa.Column("received_at", _Id, nullable=False),
    sa.Column("revision", _Id, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("reasons", sa.JSON, nullable=False),
    sa.Index(
        "uq_receipt_file",
        "sha256",
        "mode",
        "list_type",
        "source",
        unique=True,
        sqlite_where=sa.text("state IN ('committed', 'waiting')"),
        postgresql_where=sa.text("state IN ('committed', 'waiting')"),
    ),
)
EDITION: Final = sa.Table(
    "edition",
    METADATA,
    sa.Column("catalogue_id", sa.String(64), primary_key=True),
    sa.Column("edition", sa.String(64), primary_key=True),
    sa.Column("batch_id", _Id, nullable=False),
    sa.Column("file", sa.LargeBinary, nullable=False),
    sa.Column("file_name", sa.String(255), nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("published_at", _Id, nullable=False),
    sa.Column("signature", sa.LargeBinary),
    sa.Column("signer", sa.String),
)
YEAR_FILE: Final = sa.Table(
    "year_file",
    METADATA,
    sa.Column("batch_id", _Id, primary_key=True),
    sa.Column("year", sa.Integer, nullable=False),
    sa.Column("notice", sa.String(64), nullable=False),
    sa.Column("file", sa.LargeBinary, nullable=False),
    sa.Column("file_name", sa.String(255), nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("published_at", _Id, nullable=False),
    sa.Column("signature", sa.LargeBinary),
    sa.Column("signer", sa.String),
)
INQUIRY: Final = sa.Table(
    "inquiry",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("sequence", _Id, nullable=False),
    sa.Column("decision_id", sa.String(64), nullable=False),
    sa.Column("decided_at", _Id, nullable=False),
    sa.Column("department", sa.String, nullable=False),
    sa.Column("matter", sa.String, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("subject_token", sa.LargeBinary, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("tree_index", _Id),
    sa.UniqueConstraint("source", "sequence"),
    sa.Index(None, "decision_id"),
    sa.Index(None, "subject_token", "decided_at"),
    sa.Index(None, "tree_index", unique=True),
)
INQUIRY_SOURCE: Final = sa.Table(
    "inquiry_source",
    METADATA,
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("position", _Id, nullable=False),
    sa.Column("chain", sa.LargeBinary),
)
RECORD_TREE: Final = sa.Table(
    "record_tree",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("size", _Id, nullable=False),
    sa.Column("edge", sa.LargeBinary, nullable=False),
)
RECORD_NODE: Final = sa.Table(
    "record_node",
    METADATA,
    sa.Column("leaves", _Id, primary_key=True, autoincrement=False),
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
CHECKPOINT: Final = sa.Table(
    "checkpoint",
    METADATA,
    sa.Column("epoch", _Id, primary_key=True, autoincrement=False),
    sa.Column("size", _Id, primary_key=True),
    sa.Column("note", sa.String, nullable=False),
)
RETENTION: Final = sa.Table(
    "retention",
    METADATA,
    sa.Column("rule", sa.String(16), primary_key=True),
    sa.Column("position", _Id, nullable=False),
)
RECORD_HELD: Final = sa.Table(
    "record_held",
    METADATA,
    sa.Column("rule", sa.String(16), primary_key=True),
    sa.Column("tree_index", _Id, primary_key=True),
    sqlite_with_rowid=False,
)
FEEDBACK: Final = sa.Table(
    "feedback",
    METADATA,
    sa.Column("decision_id", sa.String(64), primary_key=True),
    sa.Column("listing_id", sa.String(16), primary_key=True),
    sa.Column("department", sa.String, nullable=False),
    sa.Column("matter", sa.String, nullable=False),
    sa.Column("region", sa.String(6), nullable=False),
    sa.Column("list_type", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("measures", sa.JSON, nullable=False),
    sa.Column("person", sa.Boolean, nullable=False),
    sa.Column("decided_at", _Id, nullable=False),
    sa.Column("told_at", _Id),
    sa.Column("disposition", sa.String(16)),
    sa.Column("told", sa.JSON),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index(None, "told_at", "decided_at"),
)
USAGE: Final = sa.Table(
    "usage",
    METADATA,
    sa.Column("month", sa.String(7), primary_key=True),
    sa.Column("department", sa.String, primary_key=True),
    sa.Column("matter", sa.String, primary_key=True),
    sa.Column("region", sa.String(6), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("outcome", sa.String(16), primary_key=True),
    sa.Column("answers", _Id, nullable=False),
)
LIMIT_DAY: Final = sa.Table(
    "limit_day",
    METADATA,
    sa.Column("department", sa.String(64), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("off_hours", sa.Integer, nullable=False),
    sa.Column("hours", sa.JSON, nullable=False),
    sa.Column("trips", sa.JSON, nullable=False),
    sa.Column("lifted_by", sa.String, nullable=False),
    sa.Column("rate", sa.Float),
)
GRANT_ACT: Final = sa.Table(
    "grant_act",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("department", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("base", _Id, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("second", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("brought_at", _Id, nullable=False),
    sa.Column("settled_at", _Id),
    sa.Column("declined_reason", sa.String),
    sa.Column("batch_id", _Id),
    sa.Index(None, "department"),
)
AUTHORISATION: Final = sa.Table(
    "authorisation",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("subject_token", _Token, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    sa.Column("matters", sa.JSON, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("document_no", sa.String(128), nullable=False),
    sa.Column("document_date", sa.Integer, nullable=False),
    sa.Column("document_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("valid_until", sa.Integer, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("used", sa.Integer, nullable=False),
    sa.Column("registered_at", _Id, nullable=False),
    sa.Column("registered_by", sa.String, nullable=False),
    sa.Column("withdrawn_at", _Id),
    sa.Column("withdrawn_by", sa.String),
    sa.Column("withdrawn_reason", sa.String),
    sa.UniqueConstraint("department", "document_sha256"),
    sa.Index(None, "subject_token"),
)
AUTHORISATION_USE: Final = sa.Table(
    "authorisation_use",
    METADATA,
    sa.Column("authorisation_id", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("question", sa.LargeBinary(32), nullable=False),
    sa.Column("used_at", _Id, nullable=False),
    sa.Column("used_by", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
)
COMPLAINT: Final = sa.Table(
    "complaint",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("subject_token", _Token, nullable=False),
    sa.Column("about", sa.String(128), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    sa.Column("received_at", _Id, nullable=False),
    sa.Column("received_by", sa.String, nullable=False),
    sa.Column("outcome", sa.String(16)),
    sa.Column("reply_sealed", sa.LargeBinary),
    sa.Column("reply_wrapped_key", sa.LargeBinary),
    sa.Column("accountability", sa.String),
    sa.Column("closed_at", _Id),
    sa.Column("closed_by", sa.String),
    sa.Index(None, "subject_token"),
    sa.Index(None, "about"),
    sqlite_autoincrement=True,
)
WATCH: Final = sa.Table(
    "watch",
    METADATA,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("department", sa.String, nullable=False),
    sa.Column("id_kind", sa.String(32), nullable=False),
    sa.Column("subject_token", _Token, nullable=False),
    sa.Column("bucket", _Token, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    sa.Column("matter", sa.String, nullable=False),
    sa.Column("case_no", sa.String, nullable=False),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("from_on", sa.Integer, nullable=False),
    sa.Column("until_on", sa.Integer, nullable=False),
    sa.Column("made_at", _Id, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("looked", sa.Boolean, nullable=False),
    sa.Column("ended_at", _Id),
    sa.Index(None, "bucket"),
    sa.Index(None, "department", "subject_token", "matter", "case_no"),
    sa.Index("ix_watch_new", "id", sqlite_where=sa.text("NOT looked"), postgresql_where=sa.text("NOT looked")),
    sqlite_autoincrement=True,
)
WATCH_LISTING: Final = sa.Table(
    "watch_listing",
    METADATA,
    sa.Column("watch_id", _Id, primary_key=True),
    sa.Column("listing_id", _Id, primary_key=True),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("measures", sa.JSON, nullable=False),
    sqlite_with_rowid=False,
)
WATCH_POSITION: Final = sa.Table(
    "watch_position",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("revision", _Id, nullable=False),
    sa.Column("seq", _Id, nullable=False),
    sa.Column("day", sa.Integer, nullable=False),
    sa.Column("looking_at", _Id),
    sa.Column("looked", _Id, nullable=False),
)
BEGINS_LATER: Final = sa.Table(
    "begins_later",
    METADATA,
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("listing_id", _Id, primary_key=True),
    sqlite_with_rowid=False,
)
PASSED: Final = sa.Table(
    "passed",
    METADATA,
    sa.Column("subject_key", sa.LargeBinary(16), primary_key=True),
    sa.Column("decision_id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("generation", _Id, nullable=False),
    sa.Column("decided_at", _Id, nullable=False),
    sa.Column("looked", sa.Boolean, nullable=False),
    sa.Index(None, "decided_at"),
    sa.Index(None, "generation"),
    sa.Index("ix_passed_new", "decided_at", sqlite_where=sa.text("NOT looked"), postgresql_where=sa.text("NOT looked")),
    sqlite_with_rowid=False,
)
CLOSED_CASE: Final = sa.Table(
    "closed_case",
    METADATA,
    sa.Column("department", sa.String, primary_key=True),
    sa.Column("matter", sa.String, primary_key=True),
    sa.Column("case_no", sa.String, primary_key=True),
    sa.Column("closed_at", _Id, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
)
ALERT: Final = sa.Table(
    "alert",
    METADATA,
    sa.Column("department", sa.String, primary_key=True),
    sa.Column("number", _Id, primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("watch_id", _Id, nullable=False),
    sa.Column("decision_id", sa.String(64), nullable=False),
    sa.Column("bucket", sa.LargeBinary(16), nullable=False),
    sa.Column("matter", sa.String, nullable=False),
    sa.Column("case_no", sa.String, nullable=False),
    sa.Column("listing_id", _Id, nullable=False),
    sa.Column("list_type", sa.String(64), nullable=False),
    sa.Column("authority", sa.String, nullable=False),
    sa.Column("decision_no", sa.String, nullable=False),
    sa.Column("outcome_before", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("objection", sa.Boolean, nullable=False),
    sa.Column("revision", _Id, nullable=False),
    sa.Column("made_at", _Id, nullable=False),
    sa.Column("acknowledged_at", _Id),
    sa.Index(
        "uq_alert_watch",
        *("watch_id", "listing_id", "revision", "kind", "made_at"),
        unique=True,
        sqlite_where=sa.text("watch_id > 0"),
        postgresql_where=sa.text("watch_id > 0"),
    ),
    sa.Index(
        "uq_alert_pass",
        *("decision_id", "department", "listing_id"),
        unique=True,
        sqlite_where=sa.text("watch_id = 0"),
        postgresql_where=sa.text("watch_id = 0"),
    ),
    sa.Index(None, "acknowledged_at"),
)
ALERT_HEAD: Final = sa.Table(
    "alert_head",
    METADATA,
    sa.Column("department", sa.String, primary_key=True),
    sa.Column("number", _Id, nullable=False),
)
