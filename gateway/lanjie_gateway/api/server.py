"""gRPC servers: options against hostile clients, and the interceptor every call goes through."""

import secrets
import time
from collections.abc import Awaitable, Callable
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


class Gate(grpc.aio.ServerInterceptor):
    """Authenticates, bounds what is in flight, translates errors, logs one line a call without identifiers.

    Args:
        callers: say who calls.
        grants: gives a caller with what its department is granted now.
    """

    def __init__(self, callers: Callers, grants: Callable[[Principal], Principal]) -> None:
        self._callers = callers
        self._grants = grants
        self._in_flight = 0

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wrap the handler of a method; health and reflection stay open."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_OPEN_METHODS):
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
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

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
                _completed(method, started)

        return handle

    def _stream(self, call: Callable[[Any, Any], Any], method: str) -> Callable[[Any, Any], Any]:
        async def handle(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            try:
                # Streams are long, and bounded by their services.
                self._admit(context)
                async for message in call(request, context):
                    yield message
            except Exception as error:  # noqa: BLE001  the one translation point
                await self._fail(error, context, method)
            finally:
                _completed(method, started)

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


def _completed(method: str, started: float) -> None:
    _log.debug("rpc_completed", method=method, ms=round((time.perf_counter() - started) * 1000, 3))
