"""Frames on a private stream: four bytes of length, big-endian, then one msgpack value."""

import asyncio
from typing import Any, Final

import msgpack

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Return the next value, `None` at the end of the stream.

    Raises:
        ConnectionError: the stream broke inside a frame, or the frame is too long.
    """
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME_BYTES:
            raise ConnectionError("frame too long")
        return msgpack.unpackb(await reader.readexactly(size), strict_map_key=False)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionError("the stream broke inside a frame") from None
        return None


async def write_frame(writer: asyncio.StreamWriter, value: Any) -> None:
    """Send one value and wait while the other side is behind."""
    writer.write(packed_frame(value))
    await writer.drain()


def packed_frame(value: Any) -> bytes:
    """Return the bytes of one value."""
    packed: bytes = msgpack.packb(value)
    return len(packed).to_bytes(4, "big") + packed
