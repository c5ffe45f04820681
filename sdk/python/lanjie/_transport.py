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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lanjie._tls import Renewal, Tls, explain
from lanjie.errors import GatewayFault, InvalidArgument, LanjieError, Unavailable, error_of
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
    watch_pb2,
    watch_pb2_grpc,
)

_Service = Callable[[Any], Any]
"""Makes the stub of a service for a channel."""
_SCREENING: Final[_Service] = screening_pb2_grpc.ScreeningServiceStub
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
                    {"service": "lanjie.v1.WatchService", "method": "Register"},
                    {"service": "lanjie.v1.WatchService", "method": "List"},
                    {"service": "lanjie.v1.WatchService", "method": "End"},
                    {"service": "lanjie.v1.WatchService", "method": "CloseCase"},
                    {"service": "lanjie.v1.WatchService", "method": "PullAlerts"},
                    {"service": "lanjie.v1.WatchService", "method": "Acknowledge"},
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

LONGEST: Final = 86_400.0
"""Seconds. To the library a deadline beyond its clock is one that has passed."""

# A proxy of the environment would receive the token in the clear.
_NO_PROXY: Final = ("grpc.enable_http_proxy", 0)


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
        """Refuse to send identifiers over a network in the clear, or a token at all (Art. 43).

        Raises:
            InvalidArgument: there is no TLS, and `target` is neither loopback nor a unix socket; or there is a token
                beside a certificate.
        """
        if self.tls is not None and self.tls.cert is not None and self.token:
            raise InvalidArgument(
                "a certificate says who calls, and a token is for this machine itself: give one of them",
                metadata={"field": "token", "rule": "exclusive"},
            )
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

    def watching(self, feed: str, method: str, request: Any, timeout: float) -> Any:
        """Call a method of WatchService that answers once."""
        ...

    def follow_alerts(
        self, feed: str, request: watch_pb2.StreamAlertsRequest
    ) -> Iterator[watch_pb2.StreamAlertsResponse]:
        """Take alerts as they come."""
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


@dataclass(slots=True, eq=False)
class _Held:
    """A channel, how many use it, and what it was made with: after a renewal another takes its place."""

    channel: Any
    tls: Tls | None
    users: int = 0
    retired: bool = False
    stubs: dict[_Service, Any] = field(default_factory=dict)

    def stub(self, service: _Service) -> Any:
        """Return the stub of a service. Making one registers all its methods with the channel, which takes long."""
        found = self.stubs.get(service)
        if found is None:
            found = self.stubs[service] = service(self.channel)
        return found

    def spent(self) -> bool:
        """Whether it has been replaced, and the last call over it has ended."""
        return self.retired and not self.users


class GrpcTransport:
    """A gateway over gRPC. Thread-safe; makes its channels when they are first needed.

    A certificate that is renewed gets a new channel; calls and streams over the old one end as they would have.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.require_safe(endpoint.target)
        self._endpoint = endpoint
        self._metadata = endpoint.metadata
        self._renewal = Renewal(endpoint.tls)
        self._lock = threading.Lock()
        self._closed = False
        self._channels: dict[str, _Held] = {}
        self._retired: set[_Held] = set()

    def check(self, request: screening_pb2.CheckRequest, timeout: float) -> screening_pb2.CheckResponse:
        """See `Transport`."""
        response: screening_pb2.CheckResponse = self._call(self._endpoint.target, _SCREENING, "Check", request, timeout)
        return response

    def batch_check(self, request: screening_pb2.BatchCheckRequest, timeout: float) -> screening_pb2.BatchCheckResponse:
        """See `Transport`."""
        response: screening_pb2.BatchCheckResponse = self._call(
            self._endpoint.target, _SCREENING, "BatchCheck", request, timeout
        )
        return response

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """See `Transport`."""
        request = screening_pb2.DiscoverRequest()
        response: screening_pb2.DiscoverResponse = self._call(
            self._endpoint.target, _SCREENING, "Discover", request, timeout
        )
        return response

    def pull(self, feed: str, request: sync_pb2.PullRequest, timeout: float) -> Iterator[sync_pb2.PullResponse]:
        """See `Transport`."""
        with self._using(feed) as held:
            try:
                stub = sync_pb2_grpc.SyncServiceStub(held.channel)
                yield from stub.Pull(request, timeout=timeout, metadata=self._endpoint.metadata)
            except grpc.RpcError as error:
                raise translate(error, self._endpoint.tls) from error

    def watch(self, feed: str) -> Watch:
        """See `Transport`."""
        with self._using(feed) as held:
            # A stream keeps its channel after a renewal; a fork does not wait for it.
            with self._lock:
                held.users += 1
            return _GrpcWatch(held.channel, self._endpoint, lambda: self._leave(held))

    def upload(
        self, feed: str, request: audit_pb2.UploadLocalPassesRequest, timeout: float
    ) -> audit_pb2.UploadLocalPassesResponse:
        """See `Transport`."""
        response: audit_pb2.UploadLocalPassesResponse = self._call(
            feed, audit_pb2_grpc.InquiryServiceStub, "UploadLocalPasses", request, timeout
        )
        return response

    def report(self, feed: str, request: feedback_pb2.ReportRequest, timeout: float) -> feedback_pb2.ReportResponse:
        """See `Transport`."""
        response: feedback_pb2.ReportResponse = self._call(
            feed, feedback_pb2_grpc.FeedbackServiceStub, "Report", request, timeout
        )
        return response

    def receipt(self, feed: str, request: receipt_pb2.IssueRequest, timeout: float) -> receipt_pb2.IssueResponse:
        """See `Transport`."""
        response: receipt_pb2.IssueResponse = self._call(
            feed, receipt_pb2_grpc.ReceiptServiceStub, "Issue", request, timeout
        )
        return response

    def watching(self, feed: str, method: str, request: Any, timeout: float) -> Any:
        """See `Transport`."""
        return self._call(feed, watch_pb2_grpc.WatchServiceStub, method, request, timeout)

    def follow_alerts(
        self, feed: str, request: watch_pb2.StreamAlertsRequest
    ) -> Iterator[watch_pb2.StreamAlertsResponse]:
        """See `Transport`."""
        with self._using(feed) as held:
            stub = watch_pb2_grpc.WatchServiceStub(held.channel)
            call: Any = stub.StreamAlerts(request, metadata=self._endpoint.metadata)
            try:
                yield from call
            except grpc.RpcError as error:
                raise translate(error, self._endpoint.tls) from error
            finally:
                call.cancel()

    def close(self) -> None:
        """Close the channels. Calls in flight end as cancelled."""
        with self._lock:
            self._closed = True
            channels = self._all()
        for channel in channels:
            channel.close()

    def _call(self, target: str, service: _Service, method: str, request: object, timeout: float) -> Any:
        held = self._hold(target)
        try:
            return getattr(held.stub(service), method)(request, timeout=min(timeout, LONGEST), metadata=self._metadata)
        except grpc.RpcError as error:
            raise translate(error, self._endpoint.tls) from error
        except ValueError as error:
            # What the library says of a channel that `close` took away meanwhile.
            raise error_of("CANCELLED", "", "", {}) from error
        finally:
            self._leave(held)

    def _all(self) -> list[grpc.Channel]:
        """Let go of all channels; return them, to be closed."""
        held = [*self._channels.values(), *self._retired]
        self._channels, self._retired = {}, set()
        return [each.channel for each in held]

    @contextlib.contextmanager
    def _using(self, target: str) -> Iterator[_Held]:
        """Hold the channel for a stream."""
        held = self._hold(target)
        try:
            yield held
        finally:
            self._leave(held)

    def _hold(self, target: str) -> _Held:
        with self._lock:
            held = self._opened(target)
            held.users += 1
        return held

    def _leave(self, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            spent = held.spent()
            if spent:
                self._retired.discard(held)
        if spent:
            held.channel.close()

    def _opened(self, target: str) -> _Held:
        if self._closed:
            raise error_of("CANCELLED", "", "", {})
        tls = self._renewal.now()
        held = self._channels.get(target)
        if held is not None and held.tls is not tls:
            self._retire(target)
            held = None
        if held is None:
            self._endpoint.require_safe(target)
            # The feed moves when a gateway starts again: the channel to its old address goes.
            if target != self._endpoint.target:
                for old in self._channels.keys() - {self._endpoint.target}:
                    self._channels.pop(old).channel.close()
            held = self._channels[target] = _Held(open_channel(target, tls), tls)
        return held

    def _retire(self, target: str) -> None:
        old = self._channels.pop(target)
        old.retired = True
        if old.spent():
            old.channel.close()
        else:
            self._retired.add(old)


class _GrpcWatch:
    """A stream of news. A thread of its own reads it, so that nobody ever waits longer than he wants to."""

    def __init__(self, channel: grpc.Channel, endpoint: Endpoint, ended: Callable[[], None]) -> None:
        self._tls = endpoint.tls
        self._ended = ended
        self._said: queue.SimpleQueue[sync_pb2.WatchRequest | None] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[sync_pb2.WatchResponse | LanjieError] = queue.SimpleQueue()
        try:
            stub = sync_pb2_grpc.SyncServiceStub(channel)
            self._call: Any = stub.Watch(iter(self._said.get, None), metadata=endpoint.metadata)
        except ValueError as error:
            ended()
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
            self._heard.put(translate(error, self._tls))
        finally:
            # Else the thread that brings what is said would wait for ever.
            self._said.put(None)
            self._ended()


class GrpcAsyncTransport:
    """The questions over grpc.aio. Belongs to the event loop of its first call; another loop gets its own channel."""

    def __init__(self, endpoint: Endpoint) -> None:
        endpoint.require_safe(endpoint.target)
        self._endpoint = endpoint
        self._metadata = endpoint.metadata
        self._renewal = Renewal(endpoint.tls)
        self._held: _Held | None = None
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
        held, self._held = self._held, None
        if held is not None and self._loop is asyncio.get_running_loop():
            await held.channel.close()

    async def _call(self, method: str, request: object, timeout: float) -> Any:
        held = await self._opened()
        held.users += 1
        try:
            return await getattr(held.stub(_SCREENING), method)(
                request, timeout=min(timeout, LONGEST), metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise translate(error, self._endpoint.tls) from error
        except grpc.aio.UsageError as error:
            raise error_of("CANCELLED", "", "", {}) from error
        except asyncio.CancelledError:
            # The library says so, too, of a call whose channel was closed: a task that nobody cancelled goes on.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise error_of("CANCELLED", "", "", {}) from None
        finally:
            held.users -= 1
            if held.spent():
                await held.channel.close()

    async def _opened(self) -> _Held:
        loop, tls, old = asyncio.get_running_loop(), self._renewal.now(), self._held
        if old is not None and self._loop is loop and old.tls is tls:
            return old
        held = self._held = _Held(_open_async(self._endpoint.target, tls), tls)
        if old is not None and self._loop is loop:
            old.retired = True
            if old.spent():
                await old.channel.close()
        self._loop = loop
        return held


def open_channel(target: str, tls: Tls | None, options: Iterable[tuple[str, Any]] = _OPTIONS) -> grpc.Channel:
    """Return a channel, made at the first call over it."""
    if tls is None:
        return grpc.insecure_channel(target, options=[*options, _NO_PROXY])
    return grpc.secure_channel(target, _credentials(tls), options=list(options))


def _open_async(target: str, tls: Tls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=[*_OPTIONS, _NO_PROXY])
    return grpc.aio.secure_channel(target, _credentials(tls), options=list(_OPTIONS))


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)


def translate(error: grpc.RpcError, tls: Tls | None = None) -> LanjieError:
    """Return the exception for a failed call: by the `ErrorInfo` of domain ``lanjie``, else by the status code.

    Args:
        error: of the library.
        tls: with which the call was made.
    """
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
    what = explain(call.details() or "") if tls is not None and status == "UNAVAILABLE" else ""
    return Unavailable(what, metadata={"rule": "tls"}) if what else error_of(status, "", "", {})


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
