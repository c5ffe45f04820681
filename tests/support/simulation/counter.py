"""Counters of the simulation: machines with clocks and a state directory, and processes on them that run the real SDK.

A process may be killed at any operation on a file, before or after it; what is on disk by then is what the next one
finds. Its memory, its lock and its streams are gone. Operations may fail instead, as on a full disk.
"""

import errno
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanjie._options import Options
from lanjie._runtime import Runtime, Seam
from lanjie._transport import Endpoint
from lanjie._view import LocalView
from lanjie.client import Client
from lanjie.decision import Decision
from tests.support.simulation.gateway import TRUSTED
from tests.support.simulation.network import SimTransport, Stream

if TYPE_CHECKING:
    from tests.support.simulation.world import World

_ROUNDS = 24


class Killed(BaseException):
    """The process is no more."""


class Fuse:
    """Counts operations on files, and kills or fails at one of them. One for the whole simulation.

    Attributes:
        pid: number of the process that runs.
        failed: whether the disk failed since it began to run.
    """

    def __init__(self) -> None:
        self.pid = 1
        self.failed = False
        self.left = 0
        self.after = False
        self.fails = False

    def set(self, left: int, after: bool = False, fails: bool = False) -> None:  # noqa: FBT001, FBT002
        """Kill, or fail, at the `left`-th operation from now, before or after it; 0 for never."""
        self.left, self.after, self.fails = left, after, fails

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return what stands for an operation."""

        def operation(*args: Any, **kwargs: Any) -> Any:
            if not self.left:
                return real(*args, **kwargs)
            self.left -= 1
            if self.left:
                return real(*args, **kwargs)
            if self.fails:
                self.failed = True
                raise OSError(errno.ENOSPC, "simulated")
            if self.after:
                result = real(*args, **kwargs)
                # The system closes the files of the dead.
                if real is _REAL["open"]:
                    os.close(result)
                elif real is _REAL["fdopen"]:
                    result.close()
            elif real is _REAL["fdopen"]:
                os.close(args[0])
            raise Killed

        return operation


FUSE = Fuse()
_REAL = {name: getattr(os, name) for name in ("open", "fdopen", "fsync", "replace", "unlink")}


class MemorySpool:
    """Stands for the spool, which has tests of its own."""

    def __init__(self, lineage: str) -> None:
        self.lineage = lineage
        self.sdk_id = "5d" * 16
        self.unsent = 0

    @classmethod
    def create(cls, root: Path, lineage: str) -> "MemorySpool":
        """As `Spool.create`."""
        return cls(lineage)

    def append(self, unix_nanos: int, digest: bytes, *rest: Any) -> int:
        """As `Spool.append`."""
        self.unsent += 1
        return self.unsent

    def close(self) -> None:
        """As `Spool.close`."""

    abandon = close


class Machine:
    """Clocks and a state directory, shared by the processes on it.

    Attributes:
        skew: seconds by which its wall clock is ahead.
        acknowledged: the highest (epoch, revision) that a process of it said to have on disk.
        contact_at: when a set of it was last confirmed, in seconds of the simulation.
    """

    def __init__(self, world: "World", state_dir: Path) -> None:
        self._world = world
        self.state_dir = state_dir
        self.skew = 0.0
        self.booted_at = world.now - 1_000.0
        self.acknowledged = (0, 0)
        self.contact_at = world.now

    @property
    def is_behind(self) -> bool:
        """Whether its wall clock is behind by more than any gateway allows for."""
        return self.skew < -300.0

    def monotonic(self) -> float:
        """Seconds since it was started."""
        return self._world.now - self.booted_at

    def nanos(self) -> int:
        """Nanoseconds of its wall clock."""
        return int((self._world.now + self.skew) * 1_000) * 1_000_000


class Process:
    """One process that uses the SDK.

    Attributes:
        client: what the application calls.
        stream: its last stream.
        frozen_until: until then it is not run.
        seen: the set that was last looked at.
        high: the highest (epoch, revision) it held.
        led_from: when it was last seen not to lead.
        started_at: when it was started.
        fuse: what `Fuse.set` is told while it runs.
        doubtful: its clock was behind when it started: it cannot know how old what it is told is.
        set_back: its clock was behind at some time since it was started.
    """

    def __init__(self, world: "World", machine: Machine, name: str, *, bloom: bool) -> None:
        self._world = world
        self.machine = machine
        self.name = name
        self._bloom = bloom
        self.alive = False
        self.stream: Stream | None = None
        self.frozen_until = 0.0
        self.fuse = (0, False, False)
        self.start()

    def start(self) -> None:
        """Start it anew."""
        self.alive, self.high, self.next_at = True, (0, 0), 0.0
        self.seen: LocalView | None = None
        self.led_from = self.started_at = self._world.now
        self.doubtful = self.set_back = self.machine.is_behind
        self._pid = next(self._world.pids)
        self.runtime = Runtime(
            Options(
                endpoint=Endpoint("localhost:1", None, None),
                trusted=TRUSTED,
                state_dir=self.machine.state_dir,
                timeout=1.0,
                upload_interval=1e9,
                local=True,
                use_bloom=self._bloom,
            ),
            Seam(
                transport=lambda _: SimTransport(self._world, self),
                monotonic=self.machine.monotonic,
                unix_nanos=self.machine.nanos,
                jitter=self._world.random.random,
                thread=False,
            ),
        )
        self.runtime._driver._sdk_id = self.name
        self.client = Client.__new__(Client)
        self.client._handle = types.SimpleNamespace(  # type: ignore[assignment]
            runtime=self.runtime, options=self.runtime._options, running=lambda: self.runtime
        )

    @property
    def epoch(self) -> int:
        """The epoch it knows."""
        view = self.runtime._keeper.view
        return view.state.manifest.epoch if view is not None else self._world.ledger.epoch

    def kill(self) -> None:
        """Kill it: nothing more is written."""
        self.alive = False
        if self.stream is not None:
            self.stream.close()
        self.runtime.abandon()

    def due(self) -> bool:
        """Whether its thread has something to do now."""
        now = self._world.now
        awake = self.alive and now >= self.frozen_until
        return awake and (now >= self.next_at or (self.stream is not None and not self.stream.waits()))

    def run(self) -> None:
        """Do what the thread of the runtime does until it would wait; kill it where the fuse says so."""
        network, runtime, due = self._world.network, self.runtime, 0.0
        network.speaking = self
        FUSE.set(*self.fuse)
        FUSE.pid, FUSE.failed = self._pid, False
        try:
            for _ in range(_ROUNDS):
                due = runtime._driver.step(0.0)
                building = runtime._keeper.build_some()
                runtime._publish()
                self._world.judge.look(self)
                if not building and (due > 0 or (self.stream is not None and self.stream.idle)):
                    break
            self.next_at = self._world.now + (min(due, 1.0) or 1.0)
        except Killed:
            self.kill()
        finally:
            self.fuse = (FUSE.left, FUSE.after, FUSE.fails)
            FUSE.set(0)
            network.speaking = None

    def ask(self, text: str, matter: str, at_least_revision: int = 0) -> Decision:
        """Ask as an application does."""
        return self.client.check(text, matter=matter, purpose="p", at_least_revision=at_least_revision)
