"""A worker's proof that it is current: heard from control, and not behind for too long."""

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.feed_client import BEAT_SECONDS, LAG_SECONDS, FeedClient
from lanjie_gateway.adapters.frames import read_frame, write_frame
from lanjie_gateway.adapters.index import TableIndex


class Control:
    """Control's end of the socket, played by the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.writer: asyncio.StreamWriter
        self.frames: asyncio.Queue[Any] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while (frame := await read_frame(reader)) is not None:
            self.frames.put_nowait(frame)
        writer.close()

    async def tell(self, *frame: Any) -> None:
        await write_frame(self.writer, list(frame))


@pytest.mark.asyncio
async def test_a_worker_answers_only_while_it_can_prove_that_it_is_current(tmp_path: Path) -> None:
    control, index = Control(), TableIndex()
    path = tmp_path / "feed.sock"
    server = await asyncio.start_unix_server(control.serve, path=str(path))
    client = FeedClient(path, index, "127.0.0.1:1", monotonic=lambda: control.now)
    await client.start()
    await asyncio.sleep(0.05)
    assert not client.current()
    await control.tell("begin", "ab" * 16, 1)
    assert await control.frames.get() == ["have", "127.0.0.1:1", 0, list(range(256))]
    await control.tell("load", [[b"a" * 16, 1, b"1"]])
    # Control has a long way to catch this worker up, and beats on it.
    await control.tell("slice", 7, [[b"b" * 16, 7, b""]])
    await control.tell("head", 7, control.now)
    await asyncio.sleep(0.05)
    assert not client.current()
    control.now += 3 * BEAT_SECONDS + 0.1
    await control.tell("commit", 7)
    assert await control.frames.get() == ["ack", 7]
    assert not client.current()
    await control.tell("head", 7, control.now)
    await asyncio.sleep(0.05)
    assert client.current()
    assert index.get(b"a" * 16, index.pin(0)) == b"1"

    # silence
    control.now += 3 * BEAT_SECONDS + 0.1
    assert not client.current()
    await control.tell("head", 7, control.now)
    await asyncio.sleep(0.05)
    assert client.current()

    # stopped, as a machine is that is moved, while a beat lay in the socket
    control.now += 3 * BEAT_SECONDS + 0.1
    await control.tell("head", 7, control.now)
    control.now += 60.0
    await asyncio.sleep(0.05)
    assert not client.current()
    await control.tell("head", 7, control.now)
    await asyncio.sleep(0.05)
    assert client.current()

    # a long commit: the old revision answers for a while, then not at all until the new one is whole
    for second in range(int(LAG_SECONDS) + 2):
        await control.tell("slice", 8, [[b"b" * 16, 8, b"%d" % second]])
        await control.tell("head", 8, control.now)
        await asyncio.sleep(0.01)
        assert index.get(b"b" * 16, index.pin(0)) == b""
        assert client.current() is (second <= LAG_SECONDS)
        control.now += 1.0
    await control.tell("commit", 8)
    assert await control.frames.get() == ["ack", 8]
    assert client.current()
    await client.close()
    server.close()


@pytest.mark.asyncio
async def test_the_days_of_sources_come_with_the_commit_that_changed_them(tmp_path: Path) -> None:
    control, index = Control(), TableIndex()
    path, monday = tmp_path / "feed.sock", datetime.date(2026, 3, 2)
    server = await asyncio.start_unix_server(control.serve, path=str(path))
    client = FeedClient(path, index, "127.0.0.1:1")
    await client.start()
    await asyncio.sleep(0.05)
    await control.tell("begin", "ab" * 16, 1)
    assert (await control.frames.get())[0] == "have"
    await control.tell("sources", [["WAGE", "hr", monday.toordinal()], ["TAX", "tax", monday.toordinal()]])
    await control.tell("commit", 7)
    assert await control.frames.get() == ["ack", 7]
    await control.tell("sources", [["TAX", "tax", monday.toordinal() + 1]])
    await control.tell("commit", 8)
    assert await control.frames.get() == ["ack", 8]
    assert index.sources(index.pin(7)) == {("WAGE", "hr"): monday, ("TAX", "tax"): monday}
    assert index.sources(index.pin(8)) == {("WAGE", "hr"): monday, ("TAX", "tax"): datetime.date(2026, 3, 3)}
    await client.close()
    server.close()


@pytest.mark.asyncio
async def test_what_a_control_left_half_loaded_is_forgotten(tmp_path: Path) -> None:
    control, index = Control(), TableIndex()
    path = tmp_path / "feed.sock"
    server = await asyncio.start_unix_server(control.serve, path=str(path))
    client = FeedClient(path, index, "127.0.0.1:1")
    await client.start()
    await asyncio.sleep(0.05)
    await control.tell("begin", "ab" * 16, 1)
    assert (await control.frames.get())[0] == "have"
    await control.tell("load", [[b"a" * 16, 1, b"ended since"]])
    first = control.writer
    first.close()
    while control.writer is first:  # noqa: ASYNC110  the client connects again by itself
        await asyncio.sleep(0.01)
    await control.tell("begin", "ab" * 16, 1)
    assert (await control.frames.get())[0] == "have"
    await control.tell("load", [[b"b" * 16, 2, b"listed"]])
    await control.tell("commit", 7)
    assert await control.frames.get() == ["ack", 7]
    assert index.get(b"a" * 16, index.pin(0)) == b""
    assert index.get(b"b" * 16, index.pin(0)) == b"listed"
    await client.close()
    server.close()


@pytest.mark.asyncio
async def test_a_worker_that_cannot_take_what_it_is_told_starts_over(tmp_path: Path) -> None:
    control, index = Control(), TableIndex()
    path = tmp_path / "feed.sock"
    server = await asyncio.start_unix_server(control.serve, path=str(path))
    client = FeedClient(path, index, "127.0.0.1:1")
    await client.start()
    await asyncio.sleep(0.05)
    await control.tell("begin", "ab" * 16, 1)
    assert (await control.frames.get())[0] == "have"
    first = control.writer
    await control.tell("load", 7)
    async with asyncio.timeout(10):
        while control.writer is first:  # noqa: ASYNC110  the client connects again by itself
            await asyncio.sleep(0.01)
    await control.tell("begin", "ab" * 16, 1)
    assert (await control.frames.get())[0] == "have"
    await client.close()
    server.close()
