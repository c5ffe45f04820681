"""Offers checks at fixed instants, whatever becomes of the earlier ones, so that no stall hides the calls behind it.

    python -m loadtests.openloop GATEWAY_FILE COUNT [--rates 250 500 1000] [--seconds 10] [--json]

A latency counts from the instant at which its call was due, not from the one at which it was sent. The generator says
how late it sent, and every call that was due is accounted for: answered, failed or lost. COUNT is that of the listings
with which `loadtests.gateway` filled the state: it tells the right answers, and all answers are compared with them.
"""

import argparse
import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from lanjie.v1 import screening_pb2 as pb
from lanjie.v1 import subject_pb2
from lanjie_gateway.cli.gateway_file import Listener, Person, Target
from loadtests import echo, gateway
from loadtests.gateway import PURPOSE, SEED
from loadtests.histogram import Histogram
from loadtests.population import Population, sample
from loadtests.table import Row, report, row

ROUNDS = 3
THROUGHPUT = "throughput, mixed, 16 at a time"
PROCESSOR = "processor of the {} a check, mixed"
DEADLINE = 5.0
IN_FLIGHT = 16
MOST_RATE, MOST_SECONDS = 20_000, 3_600
Call = Callable[[bytes], Awaitable[bytes]]


def schedule(rate: float, seconds: float) -> Iterator[float]:
    """Yield the seconds after the start at which calls are due: evenly, `rate` a second.

    Raises:
        ValueError: more than this driver is for.
    """
    if not (0 < rate <= MOST_RATE and 0 < seconds <= MOST_SECONDS):
        raise ValueError(f"at most {MOST_RATE} a second for {MOST_SECONDS} s")
    return (number / rate for number in range(round(rate * seconds)))


@dataclass
class Load:
    """What was seen of a load.

    Attributes:
        latency: of all calls that ended, failed ones included.
        late: how late each was sent.
        answers: number of the request and what was answered; `heard` takes them instead where it is set.
    """

    heard: Callable[[int, bytes], None] | None = None
    due: int = 0
    answered: int = 0
    latency: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Calls that were due and of which nothing was heard."""
        return self.due - self.answered - self.failed.total()

    async def one(self, call: Call, requests: Sequence[bytes], number: int, due: float) -> None:
        """Make one call."""
        self.due += 1
        self.late.add(time.perf_counter() - due)
        try:
            answer = await call(requests[number % len(requests)])
            self.answered += 1
            if self.heard is not None:
                self.heard(number % len(requests), answer)
            else:
                self.answers.append((number % len(requests), answer))
        except grpc.aio.AioRpcError as error:
            self.failed[f"{error.code().name}: {error.details()}"] += 1
        self.latency.add(time.perf_counter() - due)


async def offered(
    call: Call,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    heard: Callable[[int, bytes], None] | None = None,
) -> Load:
    """Offer calls on a schedule; return when the last has ended."""
    load, loop, stop = Load(heard=heard), asyncio.get_running_loop(), threading.Event()
    begun = time.perf_counter() + 0.05

    def ring() -> None:
        # In a thread: timers of the event loop are a millisecond coarse, and waiting in it would take a whole core.
        for number, after in enumerate(schedule(rate, seconds)):
            due = begun + after
            if stop.wait(max(due - time.perf_counter(), 0.0)):
                return
            loop.call_soon_threadsafe(begin, number, due)

    async with asyncio.TaskGroup() as group:

        def begin(number: int, due: float) -> None:
            group.create_task(load.one(call, requests, number, due))

        try:
            await asyncio.to_thread(ring)
        finally:
            stop.set()
    load.seconds = time.perf_counter() - begun
    return load


async def closed(call: Call, requests: Sequence[bytes], in_flight: int, seconds: float) -> Load:
    """Call as fast as answers come, so many at a time: what a throughput is read from, and no latency."""
    load, begun = Load(), time.perf_counter()

    async def caller(first: int) -> None:
        number = first
        while (now := time.perf_counter()) < begun + seconds:
            await load.one(call, requests, number, now)
            number += in_flight

    async with asyncio.TaskGroup() as group:
        for first in range(in_flight):
            group.create_task(caller(first))
    load.seconds = time.perf_counter() - begun
    return load


class Checks:
    """Checks of the mix as the bytes that travel, with the right answers."""

    def __init__(self, population: Population, seed: int, count: int = 4_000) -> None:
        self.asked = sample(population, random.Random(seed), count)
        self.right = [f"OUTCOME_{population.outcome(*each)}" for each in self.asked]
        self.requests = [request(*each) for each in self.asked]

    def wrong(self, answers: Sequence[tuple[int, bytes]]) -> int:
        """Return how many answers are not the right one."""
        return sum(_outcome(answer) != self.right[number] for number, answer in answers)


def request(subject: str, matter: str) -> bytes:
    """Return a question as it travels."""
    context = pb.InquiryContext(matter=matter, purpose=PURPOSE)
    return pb.CheckRequest(subject=subject_pb2.Subject(identifier=subject), context=context).SerializeToString()


def _outcome(answer: bytes) -> str:
    return pb.Outcome.Name(pb.CheckResponse.FromString(answer).decision.outcome)


class Wire:
    """Raw calls to one method: nothing but the transport is between."""

    def __init__(self, address: str, method: str, token: str = "") -> None:
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.channel = grpc.aio.insecure_channel(address)
        self._call: Any = self.channel.unary_unary(method)

    async def __call__(self, sent: bytes) -> bytes:
        """Call once."""
        answer: bytes = await self._call(sent, timeout=DEADLINE, metadata=self._metadata)
        return answer

    @classmethod
    def of(cls, file: Path) -> "Wire":
        """Return the check of a gateway."""
        endpoint = Target(gateway_file=file).endpoint(Listener.SCREENING, Person.INQUIRER)
        return cls(endpoint.address, "/lanjie.v1.ScreeningService/Check", endpoint.token or "")


async def measured(file: Path, population: Population, rates: Sequence[float], seconds: float) -> list[Row]:
    """Measure throughput and open-loop latency of a gateway beside those of an echo of the same size, in turns."""
    checks, wire = Checks(population, 1), Wire.of(file)
    sizes = [len(await wire(each)) for each in checks.requests[:200]]
    got: dict[str, list[float]] = {}
    wrong = lost = answered = 0
    with echo.running(sum(sizes) // len(sizes)) as (address, pid):
        bare = Wire(address, echo.METHOD)
        pids = [pid, *(gateway.children(file)[role][0] for role in ("worker", "control"))]
        for _ in range(ROUNDS):
            # Records are read in behind the answers: those of these calls count, and of no others.
            await asyncio.to_thread(gateway.settle, pids[2])
            before = [gateway.Usage.of(each).seconds for each in pids]
            loads = [await closed(call, checks.requests, IN_FLIGHT, seconds / 2) for call in (bare, wire)]
            await asyncio.to_thread(gateway.settle, pids[2])
            used = [gateway.Usage.of(each).seconds - was for each, was in zip(pids, before, strict=True)]
            counted = loads[0].answered, loads[1].answered, loads[1].answered
            costs = [each / max(count, 1) * 1e6 for each, count in zip(used, counted, strict=True)]
            got.setdefault(PROCESSOR.format("worker"), []).append(costs[1])
            got.setdefault(f"{PROCESSOR.format('worker')} / echo", []).append(costs[1] / max(costs[0], 1e-9))
            got.setdefault(PROCESSOR.format("control"), []).append(costs[2])
            speeds = [load.answered / load.seconds for load in loads]
            got.setdefault(THROUGHPUT, []).append(speeds[1])
            got.setdefault(f"{THROUGHPUT} / echo", []).append(speeds[1] / speeds[0])
            seen = [loads[1]]
            for rate in rates:
                loads = [await offered(call, checks.requests, rate, seconds) for call in (bare, wire)]
                seen.append(loads[1])
                for name, value in _figures(*loads):
                    got.setdefault(f"open loop, {rate:g}/s, {name}", []).append(value)
            wrong += sum(checks.wrong(load.answers) for load in seen)
            lost += sum(load.lost for load in seen)
            answered += sum(load.answered for load in seen)
        await bare.channel.close()
    await wire.channel.close()
    rows = [row(name, values, _unit(name), None) for name, values in got.items()]
    against = f"{THROUGHPUT} / echo"
    kept = [each for each in rows if each["name"] != against]
    return [
        row(against, got[against], "x", 0.8, at_least=True),
        *kept,
        row(f"loads: wrong answers of {answered:,}", [wrong], "", 0, 0),
        row("loads: lost calls", [lost], "", 0, 0),
    ]


def _figures(bare: Load, ours: Load) -> Iterator[tuple[str, float]]:
    for share in (0.5, 0.99):
        value = ours.latency.percentile(share)
        yield f"p{share * 100:g}", value
        yield f"p{share * 100:g} / echo", value / bare.latency.percentile(share)
    yield "sent late, p99", ours.late.percentile(0.99)
    # Turned away, or out of time: more than there was room for was offered.
    yield "failed", ours.failed.total() / ours.due * 100
    for reason, count in ours.failed.most_common(1):
        print(f"{count} of {ours.due:,} calls failed: {reason}", file=sys.stderr)


def _unit(name: str) -> str:
    if "/ echo" in name:
        return "x"
    return "/s" if name == THROUGHPUT else "%" if name.endswith("failed") else "us"


def short(file: Path, population: Population, full: bool) -> list[Row]:  # noqa: FBT001  an argument of the command line
    """Measure what `./run bench` shows of loads."""
    return asyncio.run(measured(file, population, (250, 500, 1_000), 10 if full else 3))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.openloop", description=__doc__)
    parser.add_argument("gateway_file", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--rates", type=float, nargs="+", default=[250, 500, 1_000])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    population = Population(SEED, options.count)
    rows = asyncio.run(measured(options.gateway_file, population, options.rates, options.seconds))
    report(rows, "open loop", as_json=options.json)


if __name__ == "__main__":
    main()
