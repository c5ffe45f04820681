"""ReceiptService: messages to receipts."""

from typing import Any

from lanjie.v1 import receipt_pb2 as pb
from lanjie.v1 import receipt_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.services.check_receipts import CheckReceiptService


class ReceiptServicer(receipt_pb2_grpc.ReceiptServiceServicer):
    """Issues receipts.

    Args:
        service: issues them.
    """

    def __init__(self, service: CheckReceiptService) -> None:
        self._service = service

    async def Issue(self, request: pb.IssueRequest, context: Any) -> pb.IssueResponse:
        """Issue one receipt."""
        asked = [(item.decision_id, item.identifier) for item in request.items]
        return pb.IssueResponse(receipt=await self._service.issue(caller(context), asked))
