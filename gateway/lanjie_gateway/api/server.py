"""gRPC servers: options against hostile clients, and the gate every call goes through."""

import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import grpc
import structlog

from lanjie_gateway.api.auth import Callers, set_caller
from lanjie_gateway.api.errors import abort, as_gateway_error
from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.settings import where

KIB: Final = 1024
SCREENING_MESSAGE_BYTES: Final = 64 * KIB
ADMIN_MESSAGE_BYTES: Final = 5 * KIB * KIB
MAX_IN_FLIGHT: Final = 2_000
"""Calls one process handles at a time; more are turned away with RESOURCE_EXHAUSTED."""

_OPEN_METHODS: Final = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_log = structlog.get_logger("lanjie.rpc")


def options(max_message_bytes: int, *, shared_port: bool = False) -> list[tuple[str, int]]:
    """Return server options that shed silent, slow and flooding connections within seconds.

    Args:
        max_message_bytes: longest request.
        shared_port: other workers listen on the same port, and the kernel deals out the connections.
    """
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", 128),
        ("grpc.max_connection_idle_ms", 30_000),
        ("grpc.max_connection_age_ms", 600_000),
        ("grpc.max_connection_age_grace_ms", 30_000),
        ("grpc.keepalive_time_ms", 5_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.server_handshake_timeout_ms", 3_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_metadata_size", 8 * KIB),
        ("grpc.absolute_max_metadata_size", 8 * KIB),
        ("grpc.so_reuseport", int(shared_port)),
    ]


class Gate:
    """Authenticates, bounds what is in flight, translates errors, logs one line a call without identifiers.

    Args:
        callers: say who calls.
        grants: gives a caller with what its department is granted now.
    """

    def __init__(self, callers: Callers, grants: Callable[[Principal], Principal]) -> None:
        self._callers = callers
        self._grants = grants
        self._in_flight = 0
        self._tells = bool(_log.bind().is_enabled_for(logging.DEBUG))

    def wrapped(self, method: str, handler: Any) -> Any:
        """Return the handler of a method behind the gate; health and reflection stay open.

        A handler with one answer may return it serialised.
        """
        if method.startswith(_OPEN_METHODS):
            return handler
        unary_response = handler.unary_unary or handler.stream_unary
        if unary_response is not None:
            wrapped: Any = self._unary(unary_response, method)
        else:
            wrapped = self._stream(handler.unary_stream or handler.stream_stream, method)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        return make(wrapped, handler.request_deserializer, _unless_bytes(handler.response_serializer))

    def _unary(self, call: Callable[[Any, Any], Awaitable[Any]], method: str) -> Callable[[Any, Any], Awaitable[Any]]:
        async def handle(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            try:
                self._enter(context)
                return await call(request, context)
            except Exception as error:  # noqa: BLE001  the one translation point
                await self._fail(error, context, method)
            finally:
                self._in_flight -= 1
                self._completed(method, started)

        return handle

    def _stream(self, call: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        async def handle(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            try:
                # Streams are long, and bounded by their services.
                self._admit(context)
                async with contextlib.aclosing(call(request, context)) as messages:
                    async for message in messages:
                        # A stream outlives grants, and names that were taken out of them (Art. 39).
                        self._admit(context)
                        yield message
            except Exception as error:  # noqa: BLE001  the one translation point
                await self._fail(error, context, method)
            finally:
                self._completed(method, started)

        return handle

    def _enter(self, context: Any) -> None:
        self._in_flight += 1
        if self._in_flight > MAX_IN_FLIGHT:
            raise Unanswerable("OVERLOADED", "too many calls in flight, try again", retry_after_ms="100")
        self._admit(context)

    def _admit(self, context: Any) -> None:
        set_caller(self._grants(self._callers.identify(context)))

    async def _fail(self, error: Exception, context: Any, method: str) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        request_id = secrets.token_hex(6)
        shown = as_gateway_error(error, request_id)
        if shown.reason == "INTERNAL":
            # The traceback names code, never values; the message of a foreign error may hold anything, so it stays out.
            _log.error("internal_error", method=method, request_id=request_id, error=where(error))
        else:
            _log.info("rpc_refused", method=method, reason=shown.reason)
        await abort(context, shown)

    def _completed(self, method: str, started: float) -> None:
        if self._tells:
            _log.debug("rpc_completed", method=method, ms=round((time.perf_counter() - started) * 1000, 3))


class GatedServer(grpc.aio.Server):
    """A server whose methods all lie behind a gate. An interceptor would be run, and wrap its method, for every call.

    Args:
        gate: for what is added.
        options: of the server.
    """

    def __init__(self, gate: Gate, options: Sequence[tuple[str, int]]) -> None:
        self._gate = gate
        self._server = grpc.aio.server(options=options)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take nothing: generated code adds every method by its name as well, and what is not added so is unknown."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service, wrapped."""
        wrapped = {
            name: self._gate.wrapped(f"/{service_name}/{name}", handler) for name, handler in method_handlers.items()
        }
        self._server.add_registered_method_handlers(service_name, wrapped)

    def add_insecure_port(self, address: str) -> int:
        """See `grpc.aio.Server`."""
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """See `grpc.aio.Server`."""
        return self._server.add_secure_port(address, server_credentials)

    async def start(self) -> None:
        """See `grpc.aio.Server`."""
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        """See `grpc.aio.Server`."""
        await self._server.stop(grace)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """See `grpc.aio.Server`."""
        return await self._server.wait_for_termination(timeout)


def _unless_bytes(serializer: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda message: message if type(message) is bytes else serializer(message)
