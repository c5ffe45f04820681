"""Answers as messages, put together from bytes.

What many answers have in common is serialised once: a measure of an edition, and what a decision says of outcome,
ledger and revision. A serialised message may be cut anywhere between its fields: parts that follow one another are read
as one message, and the entries of a repeated field keep their order.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from google.protobuf.message import Message

from lanjie.v1 import screening_pb2 as pb
from lanjie_gateway.api.messages import date_text, timestamp
from lanjie_gateway.domain.records import DIGEST_ALGORITHM
from lanjie_gateway.domain.remedies import channel_of, remedies_of, told
from lanjie_gateway.services.screening import Answer
from lanjie_matcher.catalogues import Edition, Effect, ListType, Measure
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.decide import Applied, Ruling
from lanjie_matcher.listings import Listing

_PARTS: Final = 4_096
"""Parts that are remembered; then they are made anew."""
_EFFECTS: Final = {
    Effect.ADVISE: pb.EFFECT_ADVISE,
    Effect.HEIGHTEN: pb.EFFECT_HEIGHTEN,
    Effect.RESTRICT: pb.EFFECT_RESTRICT,
    Effect.DENY: pb.EFFECT_DENY,
}


class Messages:
    """Makes messages of answers.

    Args:
        objection_channel: where to object to listings whose list type names no channel.
    """

    def __init__(self, objection_channel: str) -> None:
        self._channel = objection_channel
        # The first of each pair keeps the numbers of the objects in its key from being given again.
        self._parts: dict[Hashable, tuple[object, bytes]] = {}

    def entry(self, answer: Answer) -> bytes:
        """Return a decision as field 1 of `CheckResponse`; in `BatchCheckResponse` that is an entry of field 1."""
        ruling = answer.ruling
        parts = [self._common(answer), _own(answer)]
        if ruling.listings:
            parts.append(self._grounds(answer))
            parts += [_field(_MEASURES, self._measure(each)) for each in ruling.measures]
        return _field(_DECISION, b"".join(parts))

    def _common(self, answer: Answer) -> bytes:
        ruling = answer.ruling
        key = (ruling.outcome, ruling.reason, ruling.instruction, answer.revision, answer.epoch, answer.lineage)
        return self._part(key, None, partial(_common, answer))

    def _measure(self, applied: Applied) -> bytes:
        measure, edition = applied.measure, applied.edition
        part = self._part((id(measure), id(edition)), (measure, edition), partial(_measure, measure, edition))
        return part + b"".join(_field(_LISTING_IDS, listing.id.encode()) for listing in applied.listings)

    def _grounds(self, answer: Answer) -> bytes:
        """What an effect rests on, or lacks."""
        ruling = answer.ruling
        remedies, channels = told(ruling.listings, partial(_list_type, answer), self._channel)
        return pb.Decision(
            listings=[_listing(each, answer, self._channel) for each in ruling.listings],
            confirmation_required=ruling.confirmation_required,
            officer_verifies=ruling.officer_verifies,
            missing_facts=[
                pb.MissingFact(listing_id=each.listing.id, measure_code=each.measure.code, fact=each.fact)
                for each in ruling.missing
            ],
            catalogue_editions=ruling.editions,
            remedies=remedies,
            objection_channel=channels,
        ).SerializeToString()

    def _part(self, key: Hashable, of: object, make: Callable[[], Message]) -> bytes:
        found = self._parts.get(key)
        if found is None:
            if len(self._parts) >= _PARTS:
                self._parts.clear()
            found = self._parts[key] = of, make().SerializeToString()
        return found[1]


def _common(answer: Answer) -> pb.Decision:
    """What the answers of one revision with one outcome and instruction have in common."""
    ruling = answer.ruling
    return pb.Decision(
        outcome=pb.Outcome.Value(f"OUTCOME_{ruling.outcome.name}"),
        undetermined_reason=_reason(ruling),
        instruction=ruling.instruction,
        source=pb.SOURCE_GATEWAY,
        revision=answer.revision,
        epoch=answer.epoch,
        lineage=answer.lineage,
        digest_algorithm=DIGEST_ALGORITHM,
    )


def _own(answer: Answer) -> bytes:
    """What every answer has of its own."""
    return pb.Decision(
        warnings=answer.warnings,
        as_of_time=timestamp(answer.as_of),
        decided_time=timestamp(answer.decided_at),
        decision_id=answer.decision_id,
        record_digest=answer.record_digest,
        masked_identifier=answer.masked,
        resolve_by_time=timestamp(answer.resolve_by) if answer.resolve_by else None,
    ).SerializeToString()


def _reason(ruling: Ruling) -> "pb.UndeterminedReason.ValueType":
    if ruling.reason is None:
        return pb.UNDETERMINED_REASON_UNSPECIFIED
    return pb.UndeterminedReason.Value(f"UNDETERMINED_REASON_{ruling.reason.name}")


def _measure(measure: Measure, edition: Edition) -> pb.AppliedMeasure:
    return pb.AppliedMeasure(
        code=measure.code,
        title=measure.title,
        content=measure.content,
        effect=_EFFECTS[measure.effect],
        basis=measure.basis,
        department=measure.department,
        instruction=measure.instruction,
        catalogue=edition.name,
        publication=f"{edition.publication_number} {edition.publication_date.isoformat()}",
    )


def _list_type(answer: Answer, code: str) -> ListType | None:
    return answer.catalogues.list_type(code, day_of(answer.as_of))


def _listing(listing: Listing, answer: Answer, channel: str) -> pb.ListingEvidence:
    list_type = _list_type(answer, listing.list_type)
    return pb.ListingEvidence(
        listing_id=listing.id,
        list_type=listing.list_type,
        list_type_name=list_type.name if list_type else "",
        authority=listing.authority,
        decision_no=listing.decision_no,
        decision_date=date_text(listing.decision_date),
        listed_date=date_text(listing.listed_on),
        expires_date=date_text(listing.expires_on),
        reason=listing.reason,
        basis=listing.basis,
        removal_conditions=listing.removal_conditions,
        remedies=remedies_of(listing, list_type),
        objection=listing.objection,
        source=listing.source,
        sanction_no=listing.sanction_no,
        sanction_end_date=date_text(listing.sanction_to),
        objection_channel=channel_of(list_type, channel),
    )


def _tag(message: type[Message], field: str) -> bytes:
    """Return what stands before the length of a field: its number and wire type 2."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | 2)


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low = bytearray()
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    low.append(number)
    return bytes(low)


_DECISION: Final = _tag(pb.CheckResponse, "decision")
_MEASURES: Final = _tag(pb.Decision, "measures")
_LISTING_IDS: Final = _tag(pb.AppliedMeasure, "listing_ids")
