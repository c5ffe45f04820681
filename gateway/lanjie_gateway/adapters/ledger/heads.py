"""The head: which ledger this is, and which keys fit it."""

import secrets
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from lanjie_gateway.adapters.keys import KeyRing, KeysLostError
from lanjie_gateway.adapters.ledger.rows import LedgerError
from lanjie_gateway.adapters.ledger.tables import HEAD

TOKEN_ALGORITHM: Final = "blake2b-128"
"""Algorithm id of bucket, identity and natural-key tokens."""
KeysFor = Callable[[int, bool], KeyRing]
"""Gives the keys of a generation; may make them only when told that the ledger is fresh."""


def open_head(connection: sa.Connection, keys_for: KeysFor) -> tuple[str, int, KeyRing]:
    """Return lineage, epoch and keys of the ledger; make head and keys where there is none.

    Raises:
        LedgerError: the keys are not the ones it was written with.
        KeysLostError: they are not here.
    """
    head = connection.execute(sa.select(HEAD)).first()
    if head is None:
        lineage, epoch, generation = secrets.token_hex(16), 1, 1
        keys = keys_for(generation, True)
        connection.execute(
            HEAD.insert().values(
                id=1,
                lineage=lineage,
                epoch=epoch,
                revision=0,
                token_algorithm=TOKEN_ALGORITHM,
                key_check=keys.check,
                generation=generation,
                view_check=keys.view_check,
            )
        )
        return lineage, epoch, keys
    keys = keys_for(head.generation, False)
    if (head.key_check, head.token_algorithm) != (keys.check, TOKEN_ALGORITHM):
        raise LedgerError("the keys are not the ones this ledger was written with")
    if head.view_check is None:
        # Of an older schema, which had one view key.
        connection.execute(HEAD.update().values(view_check=keys.view_check))
    else:
        _require_view(keys, head.view_check)
    return head.lineage, head.epoch, keys


def newest_keys(connection: sa.Connection, held: KeyRing, keys_for: KeysFor) -> KeyRing:
    """Return the keys of the ledger's generation now.

    Args:
        connection: of the ledger.
        held: the keys at hand.
        keys_for: gives those of another generation.

    Raises:
        KeysLostError: another host has made a view key that is not here.
    """
    head = connection.execute(sa.select(HEAD.c.generation, HEAD.c.view_check)).one()
    if head.generation == held.generation:
        return held
    keys = keys_for(head.generation, False)
    _require_view(keys, head.view_check)
    return keys


def _require_view(keys: KeyRing, check: bytes) -> None:
    # Hosts whose rotation was interrupted have made a key of that name too; its digests would miss everybody.
    if keys.view_check != check:
        raise KeysLostError(
            f"keys/{keys.view_key_id} is not the view key of this ledger: copy keys/ from the host that has it"
        )
