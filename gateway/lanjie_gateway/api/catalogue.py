"""CatalogueService: messages to files, editions to messages."""

from typing import Any

from lanjie.v1 import catalogue_pb2 as pb
from lanjie.v1 import catalogue_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.edition_changes import changes_message
from lanjie_gateway.api.messages import date_text, signature_of, timestamp
from lanjie_gateway.domain.edition_life import EditionLife
from lanjie_gateway.services.catalogue import CatalogueRecord, CatalogueService
from lanjie_gateway.services.event_facts import parsed_day


class CatalogueServicer(catalogue_pb2_grpc.CatalogueServiceServicer):
    """Serves measure lists.

    Args:
        service: publishes and reads them.
    """

    def __init__(self, service: CatalogueService) -> None:
        self._service = service

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishResponse:
        """Publish one edition."""
        done = await self._service.publish(
            request.file,
            request.file_name or "catalogue",
            caller(context),
            signature=signature_of(request),
            dry_run=request.dry_run,
        )
        told = done.foretold
        return pb.PublishResponse(
            edition=_message(done.record, told.life),
            revision=done.revision,
            warnings=done.warnings,
            changes=changes_message(told.changes, told.live),
        )

    async def GetCatalogue(self, request: pb.GetCatalogueRequest, context: Any) -> pb.GetCatalogueResponse:
        """List the editions, or read one whole."""
        records = await self._service.get(request.catalogue_id, request.edition, caller(context))
        on = parsed_day("on_date", request.on_date) if request.on_date else None
        return pb.GetCatalogueResponse(
            editions=[
                _message(record, self._service.life(record.edition, on), with_file=bool(request.catalogue_id))
                for record in records
            ]
        )


def _message(record: CatalogueRecord, life: EditionLife, *, with_file: bool = False) -> pb.CatalogueEdition:
    edition, stored = record.edition, record.stored
    message = pb.CatalogueEdition(
        catalogue_id=edition.id,
        edition=edition.edition,
        level=edition.level.name.lower(),
        region=edition.region,
        example=edition.example,
        publication_number=edition.publication_number,
        publication_date=edition.publication_date.isoformat(),
        effective_from_date=edition.effective_from.isoformat(),
        effective_to_date=edition.effective_to.isoformat() if edition.effective_to is not None else "",
        sha256=record.sha256,
        list_types=len(edition.list_types),
        matters=len(edition.matters),
        measures=len(edition.measures),
        revision=edition.revision,
        file=record.file if with_file else b"",
        approver=edition.approver,
        filing_number=edition.filing_number or "",
        filing_date=date_text(edition.filing_date),
        state=life.state,
        first_date=date_text(life.first_day),
        last_date=date_text(life.last_day),
        superseded_by=life.superseded_by,
        superseded_date=date_text(life.superseded_from),
        closing=edition.closing,
    )
    if stored is not None:
        message.actor = stored.actor
        message.published_time.CopyFrom(timestamp(stored.published_at))
        if stored.signed is not None:
            message.signer = stored.signed.actor
            message.signature = stored.signed.value
            message.signature_algorithm = stored.signed.key.algorithm
            message.key_id = stored.signed.key.key_id
    return message
