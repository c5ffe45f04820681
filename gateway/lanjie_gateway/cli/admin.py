"""A channel to one listener of a gateway for the commands that are not checks, with deadline and errors of the SDK."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from lanjie import _transport
from lanjie.errors import Unavailable
from lanjie.v1 import (
    access_pb2_grpc,
    audit_pb2_grpc,
    calendar_pb2_grpc,
    catalogue_pb2_grpc,
    feedback_pb2_grpc,
    ledger_pb2_grpc,
    listing_pb2_grpc,
    rights_pb2_grpc,
    screening_pb2_grpc,
    statistics_pb2_grpc,
    watch_pb2_grpc,
)
from lanjie_gateway.cli.gateway_file import CommandError, Endpoint, unreachable

SECONDS: Final = 75.0
"""Deadline of a call: an act is answered when every worker knows it, or after `feed_hub.ACK_SECONDS`."""

IMPORT_SECONDS: Final = 3_600.0
"""Deadline of an import, its upload included."""

_OPTIONS: Final = (("grpc.max_receive_message_length", 64 * 1024 * 1024),)
"""A subject's report tells ten thousand inquiries, each with the listings that bore on its answer."""


class Connection:
    """One listener; made by `connect`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.address = endpoint.address
        self._tls = endpoint.tls
        # The SDK's own rule: token and identifiers never travel in the clear (Art. 43).
        spoken = _transport.Endpoint(endpoint.address, endpoint.token, endpoint.tls)
        spoken.require_safe(endpoint.address)
        self.channel = _transport.open_channel(endpoint.address, endpoint.tls, _OPTIONS)
        self._metadata = spoken.metadata
        self.listings = listing_pb2_grpc.ListingServiceStub(self.channel)
        self.catalogues = catalogue_pb2_grpc.CatalogueServiceStub(self.channel)
        self.calendar = calendar_pb2_grpc.CalendarServiceStub(self.channel)
        self.ledger = ledger_pb2_grpc.LedgerServiceStub(self.channel)
        self.access = access_pb2_grpc.AccessServiceStub(self.channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self.channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(self.channel)
        self.statistics = statistics_pb2_grpc.StatisticsServiceStub(self.channel)
        self.rights = rights_pb2_grpc.RightsServiceStub(self.channel)
        self.watches = watch_pb2_grpc.WatchServiceStub(self.channel)
        self.screening = screening_pb2_grpc.ScreeningServiceStub(self.channel)

    def call(self, method: Any, request: Any, *, seconds: float = SECONDS) -> Any:
        """Call `method` with a message, or with an iterator of messages.

        Raises:
            lanjie.LanjieError: the gateway refused.
            CommandError: it could not be reached, or did not answer in time.
        """
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def stream(self, method: Any, request: Any, *, seconds: float | None) -> Iterator[Any]:
        """Call `method` and yield its messages; raises as `call` does."""
        try:
            yield from method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _translated(self, error: grpc.RpcError) -> Exception:
        translated = _transport.translate(error, self._tls)
        if translated.metadata.get("rule") == "tls":
            return CommandError(f"no gateway answers at {self.address}: {translated}")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not translated.reason:
            return CommandError(
                f"{self.address} did not answer in time: what was asked for may be done all the same, look before you "
                "ask again"
            )
        if isinstance(translated, Unavailable) and not translated.reason:
            return CommandError(unreachable(self.address))
        return translated


@contextmanager
def connect(endpoint: Endpoint) -> Iterator[Connection]:
    """Open a connection for some calls."""
    connection = Connection(endpoint)
    try:
        yield connection
    finally:
        connection.channel.close()
