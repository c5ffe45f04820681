"""Good rows of a list file as they go from the parser to the ledger, and the ids of the listings they enter."""

from typing import NamedTuple


class StagedRow(NamedTuple):
    """A good row of a list file, made by the parser: validated, hashed, packed and sealed.

    `keys` are pairs of bucket token and view digest (`None` for persons). Rows to remove carry no content.
    """

    line: int
    op: str
    natural_key: bytes
    content: bytes
    list_type: str
    source: str
    source_version: str
    packed: bytes
    sealed: bytes
    wrapped_key: bytes
    keys: tuple[tuple[bytes, int | None], ...]


def listing_id(batch: int, line: int) -> str:
    """Return the id of the listing that a line of a batch enters."""
    return f"{listing_number(batch, line):016x}"


def listing_number(batch: int, line: int) -> int:
    """Return the row's number: batch and line, so that ids rise and an abandoned batch is one range."""
    return batch << 32 | line


def numbers_of(batch: int) -> tuple[int, int]:
    """Return the least and the greatest number that a row of a batch can have."""
    return listing_number(batch, 0), listing_number(batch + 1, 0) - 1
