"""The gateway's end of the list parser: starts the child, feeds it, reads its frames. Full pipes slow both ends."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final, Self

import msgpack

from lanjie_gateway.adapters.list_parser import frame

_PIPE_LIMIT: Final = 1 << 20
_MAX_FRAME: Final = 1 << 28


class ParserDiedError(RuntimeError):
    """The child ended without an answer."""


class ParserProcess:
    """One child for one file; killed when the block is left.

    Args:
        order: what the child needs to know, see `list_parser`; its parent is added.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "lanjie_gateway.adapters.list_parser",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_PIPE_LIMIT,
        )
        with contextlib.suppress(ConnectionError):
            await self.feed(frame({**self._order, "parent": os.getpid()}))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        # Reading to the end lets the pipe close; the child is dead, so there is not much.
        if process.stdout is not None:
            await process.stdout.read()
        await process.wait()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._running.pid

    async def feed(self, data: bytes) -> None:
        """Hand over bytes of the file; waits while the child is behind.

        Raises:
            ConnectionError: the child has ended.
        """
        pipe = self._running.stdin
        if pipe is None or pipe.is_closing():
            raise ConnectionResetError("the parser has ended")
        pipe.write(data)
        await pipe.drain()

    async def end(self) -> None:
        """Tell the child that the file is complete."""
        pipe = self._running.stdin
        if pipe is not None:
            pipe.close()
            with contextlib.suppress(ConnectionError):
                await pipe.wait_closed()

    async def frames(self) -> AsyncIterator[tuple[Any, ...]]:
        """Yield the child's frames, the last one included.

        Raises:
            ParserDiedError: the child ended without a last frame.
        """
        pipe = self._running.stdout
        if pipe is None:
            raise ParserDiedError("the parser has no output")
        while True:
            try:
                size = int.from_bytes(await pipe.readexactly(4), "big")
                body = await pipe.readexactly(min(size, _MAX_FRAME))
            except asyncio.IncompleteReadError:
                raise ParserDiedError("the parser ended without an answer") from None
            value: tuple[Any, ...] = msgpack.unpackb(body, use_list=False)
            yield value
            if value[0] != "rows":
                return

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ParserDiedError("the parser was not started")
        return self._process
