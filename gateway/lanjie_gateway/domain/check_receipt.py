"""What a receipt of checks says, from the inquiry records alone (Art. 39, 31, 71; procurement files keep it as proof).

1. It says what the records say, and nothing that the answers did not: a pass names no listing (Art. 40).
2. All its answers are of one department, one matter, one purpose and one case.
3. Each answer stands with its record: id, digest, revision and instant; each measure with its published list and basis,
   each listing with its authority, document and remedies as they stood at the revision of the answer.
4. A subject is shown masked; whoever asks for the receipt states it, and it must be the one of the record.
"""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.remedies import remedies_of
from lanjie_matcher.catalogues import APPLICANT, CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.identifiers import Identifier
from lanjie_matcher.listings import Listing
from lanjie_matcher.receipts import FORMAT, proof, receipt_id

ANSWERS: Final = ("gateway", "local")
"""Kinds of records that hold an answer."""
_COMMON: Final = ("department", "matter", "purpose", "case_no", "role", "region", "lineage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One answer.

    Attributes:
        fields: of its record.
        digest: of its record, 32 bytes.
        identifier: what was asked about; `None` where the text was no identifier.
    """

    fields: Mapping[str, Any]
    digest: bytes
    identifier: Identifier | None


def fields_of(record: bytes) -> dict[str, Any]:
    """Return the fields of a record that holds an answer.

    Raises:
        Refused: ARGUMENT_INVALID, rule ``no-answer``.
    """
    fields: dict[str, Any] = {"role": APPLICANT, **json.loads(record)}
    if fields.get("kind", "gateway") not in ANSWERS:
        raise invalid_argument("items", "no-answer", "a record among them holds no answer")
    return fields


def content(
    items: Sequence[Item],
    catalogues: CatalogueSet,
    listings: Mapping[tuple[str, int], Listing],
    *,
    salt: bytes,
    issued: str,
) -> dict[str, Any]:
    """Return the content of a receipt, ready to be signed.

    Args:
        items: at least one.
        catalogues: all editions up to now.
        listings: by id and revision, what the answers with an effect name.
        salt: 16 random bytes.
        issued: instant as records hold it.

    Raises:
        Refused: ARGUMENT_INVALID, rule ``mixed`` (2).
    """
    first = items[0].fields
    for name in _COMMON:
        if any(item.fields.get(name) != first.get(name) for item in items):
            raise invalid_argument("items", "mixed", f"the answers differ in {name}: make a receipt for each")
    # A spool may have stated none.
    matter = first.get("matter", "")
    made: dict[str, Any] = {
        "format": FORMAT,
        "issued": issued,
        "salt": salt.hex(),
        **{name: first[name] for name in _COMMON if name in first},
        "matter": matter,
        "matter_name": _matter_name(catalogues, matter),
        "catalogues": sorted({name for item in items for name in item.fields.get("catalogues", ())}),
        "measures": _measures(items, catalogues),
        "listings": _listings(items, catalogues, listings),
        "items": [_item(item, salt) for item in items],
    }
    return {**made, "id": receipt_id(made)}


def _item(item: Item, salt: bytes) -> dict[str, Any]:
    fields, identifier = item.fields, item.identifier
    made: dict[str, Any] = {
        "decision": fields["id"],
        "record": item.digest.hex(),
        "decided": fields["at"],
        "as_of": fields.get("as_of", fields["at"]),
        "epoch": fields["epoch"],
        "revision": fields["revision"],
        "source": fields.get("kind", "gateway"),
        "outcome": fields["outcome"],
        "subject": identifier.masked if identifier is not None else "",
    }
    for name in ("reason", "officer"):
        if fields.get(name):
            made[name] = fields[name]
    if fields.get("measures"):
        made["measures"] = fields["measures"]
        made["listings"] = fields.get("listings", [])
    if identifier is not None and not identifier.is_person:
        made["proof"] = proof(salt, identifier.reveal())
    return made


def named(items: Iterable[Item]) -> set[tuple[str, int]]:
    """Return the listings that the answers name, with the revision of the answer."""
    return {
        (listing, item.fields["revision"])
        for item in items
        if item.fields.get("measures")
        for listing in item.fields.get("listings", ())
    }


def _matter_name(catalogues: CatalogueSet, code: str) -> str:
    names = [matter.name for edition in catalogues.editions for matter in edition.matters if matter.code == code]
    return names[-1] if names else ""


def _measures(items: Sequence[Item], catalogues: CatalogueSet) -> dict[str, Any]:
    editions = {edition.name: edition for edition in catalogues.editions}
    found: dict[str, Any] = {}
    for item in items:
        for code in item.fields.get("measures", ()):
            for name in item.fields.get("catalogues", ()):
                edition = editions.get(name)
                for measure in edition.measures if edition is not None else ():
                    if edition is not None and measure.code == code:
                        found[code] = {
                            "title": measure.title,
                            "content": measure.content,
                            "effect": measure.effect.name,
                            "basis": measure.basis,
                            "department": measure.department,
                            "instruction": measure.instruction,
                            "catalogue": name,
                            "publication": f"{edition.publication_number} {edition.publication_date.isoformat()}",
                        }
    return found


def _listings(
    items: Sequence[Item], catalogues: CatalogueSet, listings: Mapping[tuple[str, int], Listing]
) -> dict[str, Any]:
    instants = {
        (listing, item.fields["revision"]): datetime.datetime.fromisoformat(item.fields.get("as_of", item.fields["at"]))
        for item in items
        for listing in item.fields.get("listings", ())
    }
    made = {}
    for listing, revision in sorted(named(items)):
        of = listings.get((listing, revision))
        if of is None:
            continue
        list_type = catalogues.list_type(of.list_type, day_of(instants[listing, revision]))
        made[listing] = {
            "list_type": of.list_type,
            "list_type_name": list_type.name if list_type is not None else "",
            "authority": of.authority,
            "decision_no": of.decision_no,
            "decision_date": of.decision_date.isoformat() if of.decision_date else "",
            "basis": of.basis,
            "reason": of.reason,
            "removal_conditions": of.removal_conditions,
            "remedies": remedies_of(of, list_type),
            "objection": of.objection,
        }
    return made
