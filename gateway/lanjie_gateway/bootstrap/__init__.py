"""Wires everything; nothing else constructs services.

`control` and `worker` are the two processes of production. `build` composes both in one event loop for tests.
"""

import asyncio
from typing import Self

from lanjie_gateway.bootstrap.shared import Clock, wall_clock
from lanjie_gateway.settings import Settings


class Gateway:
    """Control and worker in one event loop, for tests."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        # Imported here: a worker's process does not pay for control's database.
        from lanjie_gateway.bootstrap.control import Control  # noqa: PLC0415
        from lanjie_gateway.bootstrap.worker import Worker  # noqa: PLC0415

        self.control = Control(settings, clock)
        self.worker = Worker(settings, clock)

    async def __aenter__(self) -> Self:
        await self.control.start()
        await self.worker.start(self.control.feed)
        self.control.screening_tls = self.worker.places.tls
        await self.worker.ready()
        while not self.control.gateway_file.exists():  # noqa: ASYNC110  written by the feed's next turn
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.close()
        await self.control.close()


def build(settings: Settings, *, clock: Clock = wall_clock) -> Gateway:
    """Return a whole gateway for one event loop. Production has no way to move the clock; tests hand one in here."""
    return Gateway(settings, clock)
