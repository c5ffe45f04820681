"""An answer as a message of objects, without anything remembered: what the messages put together from bytes must be."""

from functools import partial

from lanjie.v1 import screening_pb2 as pb
from lanjie_gateway.api.decisions import _EFFECTS, _list_type, _listing
from lanjie_gateway.api.messages import timestamp
from lanjie_gateway.domain.records import DIGEST_ALGORITHM
from lanjie_gateway.domain.remedies import told
from lanjie_gateway.services.screening import Answer
from lanjie_matcher.decide import Applied, Outcome


def decision(answer: Answer, channel: str) -> pb.Decision:
    """Return the message of an answer."""
    ruling = answer.ruling
    remedies, channels = told(ruling.listings, partial(_list_type, answer), channel)
    message = pb.Decision(
        outcome=pb.Outcome.Value(f"OUTCOME_{ruling.outcome.name}"),
        instruction=ruling.instruction,
        measures=[_measure(each) for each in ruling.measures],
        listings=[_listing(each, answer, channel) for each in ruling.listings],
        confirmation_required=ruling.confirmation_required,
        officer_verifies=ruling.officer_verifies,
        missing_facts=[
            pb.MissingFact(listing_id=each.listing.id, measure_code=each.measure.code, fact=each.fact)
            for each in ruling.missing
        ],
        warnings=answer.warnings,
        source=pb.SOURCE_GATEWAY,
        revision=answer.revision,
        epoch=answer.epoch,
        lineage=answer.lineage,
        as_of_time=timestamp(answer.as_of),
        decided_time=timestamp(answer.decided_at),
        decision_id=answer.decision_id,
        record_digest=answer.record_digest,
        digest_algorithm=DIGEST_ALGORITHM,
        catalogue_editions=ruling.editions,
        masked_identifier=answer.masked,
        remedies=remedies,
        objection_channel=channels,
    )
    if ruling.outcome is Outcome.UNDETERMINED:
        assert ruling.reason is not None
        assert answer.resolve_by is not None
        message.undetermined_reason = pb.UndeterminedReason.Value(f"UNDETERMINED_REASON_{ruling.reason.name}")
        message.resolve_by_time.CopyFrom(timestamp(answer.resolve_by))
    return message


def _measure(applied: Applied) -> pb.AppliedMeasure:
    measure, edition = applied.measure, applied.edition
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
        listing_ids=[listing.id for listing in applied.listings],
    )
