"""CatalogueService: messages to files, editions to messages."""

from typing import Any

from lanjie.v1 import catalogue_pb2 as pb
from lanjie.v1 import catalogue_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import timestamp
from lanjie_gateway.domain.signing import Signature
from lanjie_gateway.services.catalogue import CatalogueRecord, CatalogueService


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
            signature=_signature(request),
            dry_run=request.dry_run,
        )
        return pb.PublishResponse(edition=_message(done.record), revision=done.revision, warnings=done.warnings)

    async def GetCatalogue(self, request: pb.GetCatalogueRequest, context: Any) -> pb.GetCatalogueResponse:
        """List the editions, or read one whole."""
        records = await self._service.get(request.catalogue_id, request.edition, caller(context))
        return pb.GetCatalogueResponse(
            editions=[_message(record, with_file=bool(request.catalogue_id)) for record in records]
        )


def _signature(request: pb.PublishRequest) -> Signature | None:
    if not request.signature:
        return None
    return Signature(algorithm=request.signature_algorithm, key_id=request.key_id, value=request.signature)


def _message(record: CatalogueRecord, *, with_file: bool = False) -> pb.CatalogueEdition:
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
