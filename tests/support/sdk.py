"""Clients of a gateway in memory, with clocks that move only when told and no thread of their own."""

import datetime
from pathlib import Path
from typing import Any

from lanjie._runtime import Runtime
from lanjie.client import Client
from lanjie.testing import FakeGateway

ASK: dict[str, Any] = {"matter": "procurement.supplier", "purpose": "bid review"}


class Clock:
    """A wall clock and a monotonic one that go together."""

    def __init__(self, at: datetime.datetime) -> None:
        self.at = at
        self.seconds = 1_000.0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.at += datetime.timedelta(seconds=seconds)
        self.seconds += seconds

    def nanos(self) -> int:
        """Return nanoseconds of the wall clock."""
        return int(self.at.timestamp()) * 1_000_000_000

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return self.seconds


class Counter:
    """One gateway, one clock, one client without a thread: `poll` does what the thread would."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.clock = Clock(datetime.datetime(2026, 3, 2, 1, 0, tzinfo=datetime.UTC))
        self.gateway = FakeGateway(
            options.pop("matters", ["procurement.supplier"]),
            **{name: options.pop(name, []) for name in ("case_no_required", "high_consequence", "stale_pass")},
            **{name: options.pop(name, [ASK["matter"]]) for name in ("as_of_allowed", "person_files")},
            unix_nanos=self.clock.nanos,
        )
        self.options = {
            "seam": self.gateway.seam(monotonic=self.clock.monotonic, jitter=lambda: 0.0, thread=False),
            "state_dir": tmp_path,
            **options,
        }
        self.client: Client = self.gateway.client(**self.options)

    @property
    def runtime(self) -> Runtime:
        """What runs behind the client."""
        return self.client._handle.running()

    def poll(self) -> bool:
        """Do one round of sync and upload."""
        return self.runtime.poll_now()
