"""The one place where errors of the gateway become gRPC statuses, each with exactly one `google.rpc.ErrorInfo`."""

from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from lanjie_gateway.domain.errors import GatewayError
from lanjie_matcher.decide import UnknownMatterError
from lanjie_matcher.identifiers import IdentifierError
from lanjie_matcher.masking import masked_line

DOMAIN: Final = "lanjie"
MAX_VALUE: Final = 200
"""Characters of a value in the metadata of an error: with more than some KiB a client refuses the whole status."""

CODES: Final = {
    "IDENTIFIER_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "ARGUMENT_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "MATTER_UNKNOWN": grpc.StatusCode.NOT_FOUND,
    "CREDENTIALS_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "NOT_PERMITTED": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_CURRENT": grpc.StatusCode.UNAVAILABLE,
    "REVISION_NOT_REACHED": grpc.StatusCode.UNAVAILABLE,
    "REVISION_COMPACTED": grpc.StatusCode.OUT_OF_RANGE,
    "CATALOGUE_REFUSED": grpc.StatusCode.INVALID_ARGUMENT,
    "FILE_REFUSED": grpc.StatusCode.INVALID_ARGUMENT,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "TRANSITION_ILLEGAL": grpc.StatusCode.FAILED_PRECONDITION,
    "SECOND_PERSON_REQUIRED": grpc.StatusCode.FAILED_PRECONDITION,
    "IMPORT_OUTDATED": grpc.StatusCode.FAILED_PRECONDITION,
    "AS_OF_NOT_ALLOWED": grpc.StatusCode.INVALID_ARGUMENT,
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "RECORD_NOT_DURABLE": grpc.StatusCode.INTERNAL,
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "LEDGER_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "INDEX_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "DAILY_CAP": grpc.StatusCode.PERMISSION_DENIED,
}
"""Every reason of errors.proto and its status code."""


def as_gateway_error(error: Exception, request_id: str) -> GatewayError:
    """Return the error a caller may see. What is not ours says only where to look for it."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, IdentifierError):
        return GatewayError("IDENTIFIER_INVALID", str(error), rule=error.rule)
    if isinstance(error, UnknownMatterError):
        return GatewayError("MATTER_UNKNOWN", "no catalogue ever defined this matter", matter=str(error.args[0]))
    return GatewayError("INTERNAL", f"internal error, request {request_id}", request_id=request_id)


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", error: GatewayError) -> NoReturn:
    """End a call with the status of `error`; what a caller wrote in the wrong place does not come back (Art. 40)."""
    metadata = {key: masked_line(value)[:MAX_VALUE] for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    code = CODES[error.reason]
    status = status_pb2.Status(code=code.value[0], message=masked_line(str(error)), details=[detail])
    converted = rpc_status.to_status(status)
    await context.abort(converted.code, converted.details, converted.trailing_metadata)
    raise AssertionError("abort returns never")
