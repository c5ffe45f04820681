"""The ledger (SQLAlchemy Core, alembic, SQLite): the record everything else is derived from."""

from lanjie_gateway.adapters.ledger.changes import Changes, newest
from lanjie_gateway.adapters.ledger.copy import OnlineCopy
from lanjie_gateway.adapters.ledger.ledger import Ledger
from lanjie_gateway.adapters.ledger.lives import Life
from lanjie_gateway.adapters.ledger.rows import (
    BucketState,
    CommitInfo,
    Corrected,
    GenerationGoneError,
    InquiryRow,
    LedgerError,
    LimitDay,
    Proposal,
    Pruned,
    StoredDuty,
    StoredEdition,
    StoredEvent,
    StoredGrantAct,
    StoredListing,
    StoredYear,
    is_act,
)
from lanjie_gateway.adapters.ledger.thread import LedgerThread, read_shards

__all__ = [
    "BucketState",
    "Changes",
    "CommitInfo",
    "Corrected",
    "GenerationGoneError",
    "InquiryRow",
    "Ledger",
    "LedgerError",
    "LedgerThread",
    "Life",
    "LimitDay",
    "OnlineCopy",
    "Proposal",
    "Pruned",
    "StoredDuty",
    "StoredEdition",
    "StoredEvent",
    "StoredGrantAct",
    "StoredListing",
    "StoredYear",
    "is_act",
    "newest",
    "read_shards",
]
