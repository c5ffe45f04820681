"""AuditService: explanations to messages."""

import datetime
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from lanjie.v1 import audit_pb2 as pb
from lanjie.v1 import audit_pb2_grpc
from lanjie_gateway.adapters.ledger.searching import Wanted
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, instant_in, timestamp
from lanjie_gateway.domain.explanation import Answered, Explanation, Step
from lanjie_gateway.domain.packed import micros
from lanjie_gateway.domain.verification import Finding, Report
from lanjie_gateway.services.explaining import ExplanationService
from lanjie_gateway.services.records import RecordService
from lanjie_gateway.services.retention import ArchiveHead, Ending, RetentionService
from lanjie_matcher.listings import Listing


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Tells why something was answered, and whether the records of it are whole.

    Args:
        service: explains answers.
        records: keeps and reads the records.
        retention: ends and archives them.
        spool_faults: counts gaps and breaks in the spools of SDKs.
    """

    def __init__(
        self,
        service: ExplanationService,
        records: RecordService,
        retention: RetentionService,
        spool_faults: Callable[[], int] = lambda: 0,
    ) -> None:
        self._service = service
        self._records = records
        self._retention = retention
        self._spool_faults = spool_faults

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        """Explain one past answer."""
        return _message(await self._service.explain(request.decision_id, request.purpose, caller(context)))

    async def VerifyRecords(
        self, request: pb.VerifyRecordsRequest, context: Any
    ) -> AsyncIterator[pb.VerifyRecordsResponse]:
        """Verify the records."""
        async for each in self._records.verify(caller(context), request.since, request.witnessed):
            message = pb.VerifyRecordsResponse(done=each.done, total=each.total)
            if each.report is not None:
                message.report.CopyFrom(_report(each.report))
            yield message

    async def GetWitness(self, request: pb.GetWitnessRequest, context: Any) -> pb.GetWitnessResponse:
        """Return the newest checkpoint with its proof."""
        note, old, proof = await self._records.witness(caller(context), request.old_size)
        return pb.GetWitnessResponse(note=note, old_size=old, proof=proof)

    async def GetRecordStatus(self, request: pb.GetRecordStatusRequest, context: Any) -> pb.GetRecordStatusResponse:
        """Say how the records are."""
        del request
        size, signed = await self._records.status(caller(context))
        held, archived = await self._retention.status()
        message = pb.GetRecordStatusResponse(
            size=size,
            checkpoint_size=signed,
            findings=map(_finding, self._records.findings),
            spool_faults=self._spool_faults(),
            held=held,
            archived=archived,
        )
        if self._retention.ended_at is not None:
            message.retention_time.CopyFrom(timestamp(self._retention.ended_at))
        if self._records.checked_at is not None:
            message.checked_time.CopyFrom(timestamp(self._records.checked_at))
        return message

    async def SearchRecords(self, request: pb.SearchRecordsRequest, context: Any) -> pb.SearchRecordsResponse:
        """Find records."""
        wanted = Wanted(
            department=request.department,
            person=request.person,
            matter=request.matter,
            outcome=request.outcome,
            kind=request.kind,
            decision_id=request.decision_id,
            since=_micros(request, "from_time"),
            before=_micros(request, "to_time"),
            most=request.page_size or 100,
            after=request.page_token,
        )
        found, after, own = await self._records.search(caller(context), request.purpose, request.subject, wanted)
        return pb.SearchRecordsResponse(
            records=[_found(index, fields) for index, fields in found], next_page_token=after, record_id=own
        )

    async def ExportRecords(
        self, request: pb.ExportRecordsRequest, context: Any
    ) -> AsyncIterator[pb.ExportRecordsResponse]:
        """Send records with their proofs."""
        async for each in self._records.export(caller(context), request.purpose, request.start, request.end):
            if isinstance(each, str):
                yield pb.ExportRecordsResponse(note=each)
                continue
            yield pb.ExportRecordsResponse(
                records=[
                    pb.ExportedRecord(
                        index=one.leaf.index, record=one.leaf.record, digest=one.leaf.digest, proof=one.proof
                    )
                    for one in each
                ]
            )

    async def EndRetention(
        self, request: pb.EndRetentionRequest, context: Any
    ) -> AsyncIterator[pb.EndRetentionResponse]:
        """End what has ended, or tell what would go."""
        async for each in self._retention.end(caller(context), dry=request.dry_run):
            yield pb.EndRetentionResponse(ended=map(_ended, each))

    async def ArchiveRecords(
        self, request: pb.ArchiveRecordsRequest, context: Any
    ) -> AsyncIterator[pb.ArchiveRecordsResponse]:
        """Send records for an archive."""
        start = request.start if request.HasField("start") else None
        until = instant_in(request, "until_time")
        async for each in self._retention.archive(caller(context), request.purpose, start, until):
            if isinstance(each, ArchiveHead):
                head = pb.ArchiveHead(note=each.note, start=each.start, edge=each.edge)
                yield pb.ArchiveRecordsResponse(head=head)
                continue
            yield pb.ArchiveRecordsResponse(
                records=[pb.ExportedRecord(index=one.index, record=one.record, digest=one.digest) for one in each]
            )

    async def NoteArchive(self, request: pb.NoteArchiveRequest, context: Any) -> pb.NoteArchiveResponse:
        """Take an archive as made."""
        archived, own = await self._retention.archived(
            caller(context), request.purpose, request.start, request.end, request.sha256
        )
        return pb.NoteArchiveResponse(archived=archived, record_id=own)


def _ended(each: Ending) -> pb.EndedRecords:
    return pb.EndedRecords(
        rule=each.rule,
        days=each.days,
        before_time=timestamp(each.before),
        count=each.count,
        held=each.held,
        unarchived=each.unarchived,
        kinds=each.kinds,
    )


def _micros(request: pb.SearchRecordsRequest, name: str) -> int:
    at = instant_in(request, name)
    return micros(at) if at is not None else 0


def _finding(each: Finding) -> pb.RecordFinding:
    return pb.RecordFinding(index=each.index, last=each.last, fault=each.fault.value, text=each.text)


def _report(report: Report) -> pb.RecordReport:
    return pb.RecordReport(
        start=report.start,
        size=report.size,
        erased=report.erased,
        checkpoints=report.checkpoints,
        proven=report.proven,
        newest=report.newest,
        findings=map(_finding, report.findings),
        notes=report.notes,
    )


def _found(index: int, fields: Mapping[str, Any]) -> pb.FoundRecord:
    names = ("department", "person", "officer", "mode", "matter", "purpose", "case_no", "outcome", "reason")
    texts: dict[str, Any] = {name: str(fields.get(name, "")) for name in names}
    message = pb.FoundRecord(
        index=index,
        decision_id=fields.get("id", ""),
        kind=fields.get("kind", "gateway"),
        measures=fields.get("measures", ()),
        revision=fields.get("revision", 0),
        **texts,
    )
    if "at" in fields:
        message.decided_time.CopyFrom(timestamp(datetime.datetime.fromisoformat(fields["at"])))
    return message


def _message(found: Explanation) -> pb.ExplainResponse:
    message = pb.ExplainResponse(
        decision_id=found.decision_id,
        kind=found.kind,
        decided_time=timestamp(found.decided_at),
        department=found.department,
        matter=found.matter,
        role=found.role,
        handling_region=found.region,
        lineage=found.lineage,
        epoch=min(found.epoch, 0xFFFF_FFFF),
        revision=found.revision,
        reproduced=found.reproduced,
        recorded=_answer(found.recorded),
        differences=found.differences,
        obstacles=found.obstacles,
        steps=map(_step, found.steps),
        listings=map(_listing, found.listings),
        record_id=found.record_id,
    )
    if found.as_of is not None:
        message.as_of_time.CopyFrom(timestamp(found.as_of))
    if found.replayed is not None:
        message.replayed.CopyFrom(_answer(found.replayed))
    return message


def _answer(answer: Answered) -> pb.ExplainedAnswer:
    return pb.ExplainedAnswer(
        outcome=answer.outcome,
        reason=answer.reason,
        measures=answer.measures,
        listings=answer.listings,
        catalogues=answer.catalogues,
        warnings=answer.warnings,
    )


def _step(step: Step) -> pb.ExplainedStep:
    message = pb.ExplainedStep(number=step.number, title=step.title, article=step.article)
    for finding, text in step.findings:
        message.findings.add(
            verdict=finding.verdict,
            text=text,
            listing_id=finding.listing,
            measure=finding.measure,
            catalogue=finding.edition,
            detail=finding.detail,
        )
    return message


def _listing(listing: Listing) -> pb.ExplainedListing:
    return pb.ExplainedListing(
        listing_id=listing.id,
        list_type=listing.list_type,
        authority=listing.authority,
        decision_no=listing.decision_no,
        begins_date=date_text(listing.begins_on),
    )
