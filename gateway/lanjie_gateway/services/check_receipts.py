"""Issues receipts of checks: facts from the inquiry records, signed with the gateway's key."""

import datetime
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.domain import check_receipt
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.check_receipt import Item
from lanjie_gateway.domain.errors import invalid_argument, not_found
from lanjie_gateway.domain.history import state_at
from lanjie_gateway.domain.record_retention import ENDED, ERASED
from lanjie_gateway.domain.records import digest, instant
from lanjie_gateway.domain.retention import erased
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher import receipts
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import Identifier, IdentifierError, parse
from lanjie_matcher.listings import Listing

MAX_ITEMS: Final = 5_000
KIND: Final = "receipt"
"""Kind of the inquiry record that a receipt leaves."""


class CheckReceiptService:
    """Issues receipts.

    Args:
        ledger: the record.
        catalogues: all editions.
        view_keys: gives every view key that is here, by generation.
        load: takes in the records that workers have just written.
        clock: aware instants.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        view_keys: Callable[[], Mapping[int, ViewKey]],
        load: Callable[[], Awaitable[int]],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._view_keys = view_keys
        self._load = load
        self._clock = clock
        self._records = OwnRecords(ledger, clock)

    async def issue(self, principal: Principal, asked: Sequence[tuple[str, str]]) -> bytes:
        """Return the signed receipt of some answers of the caller's department.

        1. Who asked gets the receipt, and nobody else (Art. 40).
        2. The records, also those that a worker has just written; whoever states another subject is refused.
        3. The content, by `lanjie_gateway.domain.check_receipt`.
        4. A receipt leaves a record of its own before it is given (Art. 39).

        Args:
            principal: the caller.
            asked: decision id and identifier, ``kind:number``, of each; the identifier as it was asked about, empty
                where it was none.

        Raises:
            Refused: NOT_PERMITTED; ARGUMENT_INVALID; NOT_FOUND: an answer is not known, another department's, or about
                another subject.
        """
        principal.require(Role.INQUIRER)  # (1)
        if not 1 <= len(asked) <= MAX_ITEMS:
            raise invalid_argument("items", "count", f"a receipt has 1 to {MAX_ITEMS:,} answers: ask for several")
        await self._load()  # (2)
        rows = await self._rows([decision for decision, _ in asked if "\0" not in decision], principal.department)
        items = [self._item(rows.get(decision), identifier) for decision, identifier in asked]
        now = self._clock()
        listings = await self._listings(items)
        made = check_receipt.content(  # (3)
            items, self._catalogues(), listings, salt=secrets.token_bytes(16), issued=instant(now)
        )
        await self._record(principal, made, now)  # (4)
        keys = self._ledger.keys
        signature = keys.sign(receipts.SIGNED_PREFIX + receipts.canonical(made))
        return receipts.sealed(made, keys.signing_key_id, signature)

    async def _rows(self, decisions: Sequence[str], department: str) -> Mapping[str, InquiryRow]:
        found: dict[str, InquiryRow] = {}
        for row in await self._ledger.call(Ledger.inquiries_named, decisions):
            # A spool may have been named after a gateway's segment; the gateway's own record is the one that counts.
            if row.department == department and (row.decision_id not in found or row.kind == "gateway"):
                found[row.decision_id] = row
        return found

    def _item(self, row: InquiryRow | None, text: str) -> Item:
        if row is None:
            raise not_found("no such decision")
        if row.outcome == ERASED:
            raise not_found(ENDED)
        fields = check_receipt.fields_of(row.record)
        identifier = _parsed(text)
        if not self._is_about(fields, identifier):
            raise not_found("no such decision")
        return Item(fields=fields, digest=digest(row.record), identifier=identifier)

    def _is_about(self, fields: Mapping[str, Any], identifier: Identifier | None) -> bool:
        if identifier is None:
            return not fields.get("subject")
        if fields.get("kind") == "local":
            key = self._view_keys().get(fields["generation"])
            if key is None:
                return False
            token = key.digest64(identifier.key).to_bytes(8, "big")
        else:
            token = IndexKey(self._ledger.keys.index).token(identifier.reveal())
        return fields.get("subject") == token.hex()

    async def _listings(self, items: Sequence[Item]) -> Mapping[tuple[str, int], Listing]:
        wanted = check_receipt.named(items)
        lives = await self._ledger.call(Ledger.lives_of, {listing for listing, _ in wanted}) if wanted else ()
        found = {}
        for life in lives:
            for revision in (revision for listing, revision in wanted if listing == life.listing_id):
                state = state_at(life.now, life.happened, revision)
                if state is not None and not erased(state):
                    found[life.listing_id, revision] = state.listing
        return found

    async def _record(self, principal: Principal, made: Mapping[str, Any], now: datetime.datetime) -> None:
        await self._records.leave(
            KIND,
            "RECEIPT",
            department=principal.department,
            person=principal.person,
            fields={
                "matter": made["matter"],
                "case_no": made.get("case_no", ""),
                "receipt": made["id"],
                "answers": len(made["items"]),
            },
            at=now,
        )


def _parsed(text: str) -> Identifier | None:
    if not text:
        return None
    try:
        return parse(text)
    except IdentifierError:
        # What the records of such answers say: no subject was looked up.
        return None
