"""The one place that touches gRPC: channels, credentials, retries, deadlines, and errors into exceptions.

`Transport` is the seam: the client speaks to it alone, and `lanjie.testing` puts a gateway in memory behind it. No
channel exists before the first call.
"""

import asyncio
import contextlib
import ipaddress
import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lanjie.errors import GatewayFault, InvalidArgument, LanjieError, error_of
from lanjie.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    receipt_pb2,
    receipt_pb2_grpc,
    screening_pb2,
    screening_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
)

_T = TypeVar("_T")

DOMAIN: Final = "lanjie"
_DETAILS: Final = "grpc-status-details-bin"
_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                # What is asked twice leaves two records, and nothing else; what is told twice is told once.
                "name": [
                    {"service": "lanjie.v1.ScreeningService", "method": "Check"},
                    {"service": "lanjie.v1.ScreeningService", "method": "BatchCheck"},
                    {"service": "lanjie.v1.ScreeningService", "method": "Discover"},
                    {"service": "lanjie.v1.SyncService", "method": "Pull"},
                    {"service": "lanjie.v1.FeedbackService", "method": "Report"},
                    {"service": "lanjie.v1.ReceiptService", "method": "Issue"},
                ],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
_OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # The server counts pings under 10 s as strikes.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A gateway that comes back is found within seconds; the library's own limit is two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Mutual TLS. All parts are PEM.

    Attributes:
        ca: certificates of the authority that vouches for the gateway.
        cert: own certificate; the department stands in its subject alternative name.
        key: own private key.
    """

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach and convince a gateway.

    Attributes:
        target: address of the screening listener, ``host:port`` or another gRPC target.
        token: bearer token.
        tls: mutual TLS; without it only this machine itself may be addressed.
    """

    target: str
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def require_safe(self, target: str) -> None:
        """Refuse to send a token or identifiers over a network in the clear (Art. 43).

        Raises:
            InvalidArgument: there is no TLS, and `target` is neither loopback nor a unix socket.
        """
        if self.tls is None and not is_local(target):
            raise InvalidArgument(
                "without tls=... only a loopback address or a unix socket may be addressed: "
                "token and identifiers would travel in the clear",
                metadata={"field": "tls", "rule": "required"},
            )


def is_local(target: str) -> bool:
    """Whether every address of a gRPC target lies on this machine. A name other than ``localhost`` does not count."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("ipv4:", "ipv6:", "dns:///"):
        target = target.removeprefix(scheme)
    return all(_is_loopback(address) for address in target.split(","))


def _is_loopback(address: str) -> bool:
    host = address.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Watch(Protocol):
    """One stream of news from a gateway."""

    def send(self, request: sync_pb2.WatchRequest) -> None:
        """Say something."""
        ...

    def receive(self, timeout: float) -> sync_pb2.WatchResponse | None:
        """Return the next message, `None` if none came in time; raise `LanjieError` when the stream has ended."""
        ...

    def close(self) -> None:
        """End it; any thread may."""
        ...


class Transport(Protocol):
    """What a client needs of a gateway. Every method raises only `LanjieError`; timeouts are seconds."""

    def check(self, request: screening_pb2.CheckRequest, timeout: float) -> screening_pb2.CheckResponse:
        """Ask one question."""
        ...

    def batch_check(self, request: screening_pb2.BatchCheckRequest, timeout: float) -> screening_pb2.BatchCheckResponse:
        """Ask several."""
        ...

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """Ask where the feed is."""
        ...

    def pull(self, feed: str, request: sync_pb2.PullRequest, timeout: float) -> Iterator[sync_pb2.PullResponse]:
        """Ask for head and set."""
        ...

    def watch(self, feed: str) -> Watch:
        """Open a stream of news."""
        ...

    def upload(
        self, feed: str, request: audit_pb2.UploadLocalPassesRequest, timeout: float
    ) -> audit_pb2.UploadLocalPassesResponse:
        """Bring records of local passes."""
        ...

    def report(self, feed: str, request: feedback_pb2.ReportRequest, timeout: float) -> feedback_pb2.ReportResponse:
        """Tell what was done about an answer."""
        ...

    def receipt(self, feed: str, request: receipt_pb2.IssueRequest, timeout: float) -> receipt_pb2.IssueResponse:
        """Ask for the receipt of answers."""
        ...

    def pause(self, patience: float) -> bool:
        """Leave the library before a fork, and hold back whoever calls.

        Args:
            patience: seconds to wait for the calls under way.

        Returns:
            Whether it was left. Where a call takes longer, everything stays open for it.
        """
        ...

    def resume(self) -> None:
        """Go on after the fork, in the parent."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class AsyncTransport(Protocol):
    """The questions alone, for an event loop. Sync and upload stay with a `Transport` in a thread."""

    async def check(self, request: screening_pb2.CheckRequest, timeout: float) -> screening_pb2.CheckResponse:
        """Ask one question."""
        ...

    async def batch_check(
        self, request: screening_pb2.BatchCheckRequest, timeout: float
    ) -> screening_pb2.BatchCheckResponse:
        """Ask several."""
        ...

    async def close(self) -> None:
        """Give back what is held."""
        ...


class GrpcTransport:
    """A gateway over gRPC. Thread-safe; makes its channels when they are first needed."""

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.require_safe(endpoint.target)
        self._endpoint = endpoint
        self._gate = threading.Condition()
        self._calls = 0
        self._paused = self._closed = False
        self._channels: dict[str, grpc.Channel] = {}

    def check(self, request: screening_pb2.CheckRequest, timeout: float) -> screening_pb2.CheckResponse:
        """See `Transport`."""
        with self._channel(self._endpoint.target) as channel:
            return self._call(screening_pb2_grpc.ScreeningServiceStub(channel).Check, request, timeout)

    def batch_check(self, request: screening_pb2.BatchCheckRequest, timeout: float) -> screening_pb2.BatchCheckResponse:
        """See `Transport`."""
        with self._channel(self._endpoint.target) as channel:
            return self._call(screening_pb2_grpc.ScreeningServiceStub(channel).BatchCheck, request, timeout)

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """See `Transport`."""
        with self._channel(self._endpoint.target) as channel:
            stub = screening_pb2_grpc.ScreeningServiceStub(channel)
            return self._call(stub.Discover, screening_pb2.DiscoverRequest(), timeout)

    def pull(self, feed: str, request: sync_pb2.PullRequest, timeout: float) -> Iterator[sync_pb2.PullResponse]:
        """See `Transport`."""
        with self._channel(feed) as channel:
            try:
                stub = sync_pb2_grpc.SyncServiceStub(channel)
                yield from stub.Pull(request, timeout=timeout, metadata=self._endpoint.metadata)
            except grpc.RpcError as error:
                raise translate(error) from error

    def watch(self, feed: str) -> Watch:
        """See `Transport`."""
        with self._channel(feed) as channel:
            return _GrpcWatch(sync_pb2_grpc.SyncServiceStub(channel), self._endpoint.metadata)

    def upload(
        self, feed: str, request: audit_pb2.UploadLocalPassesRequest, timeout: float
    ) -> audit_pb2.UploadLocalPassesResponse:
        """See `Transport`."""
        with self._channel(feed) as channel:
            return self._call(audit_pb2_grpc.InquiryServiceStub(channel).UploadLocalPasses, request, timeout)

    def report(self, feed: str, request: feedback_pb2.ReportRequest, timeout: float) -> feedback_pb2.ReportResponse:
        """See `Transport`."""
        with self._channel(feed) as channel:
            return self._call(feedback_pb2_grpc.FeedbackServiceStub(channel).Report, request, timeout)

    def receipt(self, feed: str, request: receipt_pb2.IssueRequest, timeout: float) -> receipt_pb2.IssueResponse:
        """See `Transport`."""
        with self._channel(feed) as channel:
            return self._call(receipt_pb2_grpc.ReceiptServiceStub(channel).Issue, request, timeout)

    def pause(self, patience: float) -> bool:
        """See `Transport`. A fork while a thread is inside gRPC leaves the child a library that may crash."""
        with self._gate:
            self._paused = True
            if not self._gate.wait_for(lambda: not self._calls, patience):
                return False
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()
        return True

    def resume(self) -> None:
        """See `Transport`."""
        with self._gate:
            self._paused = False
            self._gate.notify_all()

    def close(self) -> None:
        """Close the channels. Calls in flight end as cancelled."""
        with self._gate:
            self._closed = True
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    def _call(self, method: Callable[..., _T], request: object, timeout: float) -> _T:
        try:
            return method(request, timeout=timeout, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            raise translate(error) from error
        except ValueError as error:
            # What the library says of a channel that `close` took away meanwhile.
            raise error_of("CANCELLED", "", "", {}) from error

    @contextlib.contextmanager
    def _channel(self, target: str) -> Iterator[grpc.Channel]:
        """Hold the channel for a call."""
        with self._gate:
            self._gate.wait_for(lambda: not self._paused)
            channel = self._opened(target)
            self._calls += 1
        try:
            yield channel
        finally:
            with self._gate:
                self._calls -= 1
                if self._paused:
                    self._gate.notify_all()

    def _opened(self, target: str) -> grpc.Channel:
        if self._closed:
            raise error_of("CANCELLED", "", "", {})
        channel = self._channels.get(target)
        if channel is None:
            self._endpoint.require_safe(target)
            # The feed moves when a gateway starts again: the channel to its old address goes.
            if target != self._endpoint.target:
                for old in self._channels.keys() - {self._endpoint.target}:
                    self._channels.pop(old).close()
            channel = self._channels[target] = _open(self._endpoint, target)
        return channel


class _GrpcWatch:
    """A stream of news. A thread of its own reads it, so that nobody ever waits longer than he wants to."""

    def __init__(self, stub: sync_pb2_grpc.SyncServiceStub, metadata: tuple[tuple[str, str], ...]) -> None:
        self._said: queue.SimpleQueue[sync_pb2.WatchRequest | None] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[sync_pb2.WatchResponse | LanjieError] = queue.SimpleQueue()
        try:
            self._call: Any = stub.Watch(iter(self._said.get, None), metadata=metadata)
        except ValueError as error:
            raise error_of("CANCELLED", "", "", {}) from error
        threading.Thread(target=self._read, name="lanjie-watch", daemon=True).start()

    def send(self, request: sync_pb2.WatchRequest) -> None:
        """See `Watch`."""
        self._said.put(request)

    def receive(self, timeout: float) -> sync_pb2.WatchResponse | None:
        """See `Watch`."""
        try:
            heard = self._heard.get(block=timeout > 0, timeout=timeout or None)
        except queue.Empty:
            return None
        if isinstance(heard, LanjieError):
            raise heard
        return heard

    def close(self) -> None:
        """See `Watch`."""
        self._said.put(None)
        self._call.cancel()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._heard.put(response)
            self._heard.put(error_of("UNAVAILABLE", "", "", {}))
        except grpc.RpcError as error:
            self._heard.put(translate(error))
        finally:
            # Else the thread that brings what is said would wait for ever.
            self._said.put(None)


class GrpcAsyncTransport:
    """The questions over grpc.aio. Belongs to the event loop of its first call; another loop gets its own channel."""

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.require_safe(endpoint.target)
        self._endpoint = endpoint
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def check(self, request: screening_pb2.CheckRequest, timeout: float) -> screening_pb2.CheckResponse:
        """See `AsyncTransport`."""
        response: screening_pb2.CheckResponse = await self._call("Check", request, timeout)
        return response

    async def batch_check(
        self, request: screening_pb2.BatchCheckRequest, timeout: float
    ) -> screening_pb2.BatchCheckResponse:
        """See `AsyncTransport`."""
        response: screening_pb2.BatchCheckResponse = await self._call("BatchCheck", request, timeout)
        return response

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()

    async def _call(self, method: str, request: object, timeout: float) -> Any:
        stub = screening_pb2_grpc.ScreeningServiceStub(self._open())
        try:
            return await getattr(stub, method)(request, timeout=timeout, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            raise translate(error) from error
        except grpc.aio.UsageError as error:
            raise error_of("CANCELLED", "", "", {}) from error

    def _open(self) -> grpc.aio.Channel:
        loop = asyncio.get_running_loop()
        if self._channel is None or self._loop is not loop:
            self._loop, self._channel = loop, _open_async(self._endpoint)
        return self._channel


def _open(endpoint: Endpoint, target: str) -> grpc.Channel:
    if endpoint.tls is None:
        return grpc.insecure_channel(target, options=_plain_options())
    return grpc.secure_channel(target, _credentials(endpoint.tls), options=list(_OPTIONS))


def _open_async(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.tls is None:
        return grpc.aio.insecure_channel(endpoint.target, options=_plain_options())
    return grpc.aio.secure_channel(endpoint.target, _credentials(endpoint.tls), options=list(_OPTIONS))


def _plain_options() -> list[tuple[str, Any]]:
    # A proxy of the environment would receive the token in the clear.
    return [*_OPTIONS, ("grpc.enable_http_proxy", 0)]


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)


def translate(error: grpc.RpcError) -> LanjieError:
    """Return the exception for a failed call: by the `ErrorInfo` of domain ``lanjie``, else by the status code."""
    # The blocking and the asynchronous errors share these methods and no class that has them.
    call: Any = error
    if not hasattr(call, "code"):
        return GatewayFault("the call ended without a status")
    status = call.code().name
    for name, value in call.trailing_metadata() or ():
        if name != _DETAILS or not isinstance(value, bytes):
            continue
        info = _error_info(value)
        if info is not None:
            return error_of(status, info.reason, call.details() or "", dict(info.metadata))
    return error_of(status, "", "", {})


def _error_info(value: bytes) -> Any:
    try:
        details = status_pb2.Status.FromString(value).details
    except DecodeError:
        return None
    for detail in details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None
