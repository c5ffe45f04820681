"""The chain of a spool of local passes (Art. 39): each pass is hashed with the hash before it, from its name on.

What was uploaded cannot be replaced, and what is uploaded next cannot be left out or exchanged on its way, without the
chain showing it. A break loses nothing: the passes are taken, marked, and told.
"""

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32


class ChainFault(enum.StrEnum):
    """What is wrong with the chain of an upload."""

    CHANGED = "changed"
    """The passes are not those that the hash behind them was made of."""
    CUT = "cut"
    """The chain does not go on where the gateway last saw it."""
    FORKED = "forked"
    """A number that the gateway has stands for another pass: two spools bear one name."""
    UNKNOWN = "unknown"
    """The uploader has lost the hash, or never had one while the spool had a chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What an upload says of its chain; `number` 0 from an SDK without one."""

    number: int = 0
    before: bytes = b""
    after: bytes = b""


UNCHAINED: Final = Block()


def beginning(spool: str) -> bytes:
    """Return the hash before the first pass of a spool."""
    return hashlib.sha256(b"lanjie spool v1 " + spool.encode()).digest()


def fork(spool: str, message: bytes) -> str:
    """Return the name under which a pass is kept whose number in its spool stands for another."""
    return hashlib.sha256(b"lanjie fork v1 " + spool.encode() + message).hexdigest()[: len(spool)]


def judge(
    spool: str, held: int, chain: bytes | None, block: Block, passes: Iterable[tuple[int, bytes]]
) -> tuple[bytes | None, ChainFault | None]:
    """Return the hash behind an upload, `None` where there is no chain, and what is wrong with it.

    Args:
        spool: its name.
        held: number of the last pass that the gateway has; 0 for none.
        chain: hash up to there; `None` where the spool had no chain.
        block: what the upload says.
        passes: number and serialised message of each, in order; it may begin with passes that the gateway has.
    """
    if not block.number:
        return None, ChainFault.UNKNOWN if chain is not None else None
    known = beginning(spool) if held == 0 else chain
    if len(block.before) != HASH_BYTES:
        return (block.after if len(block.after) == HASH_BYTES else None), ChainFault.UNKNOWN
    current, fault = block.before, None
    met = False
    for number, message in passes:
        if number > held and not met:
            met = True
            if known is not None and current != known:
                fault = ChainFault.CUT
        current = hashlib.sha256(current + message).digest()
    return block.after, ChainFault.CHANGED if current != block.after else fault
