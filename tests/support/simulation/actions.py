"""What may happen in a schedule, and how a seed draws which of it does, how often, and with which faults."""

import datetime
import random
from collections.abc import Callable

from tests.support.simulation import subjects
from tests.support.simulation.ledger import Policy, day_of
from tests.support.simulation.network import Faults
from tests.support.simulation.world import MATTERS, Swarm, World

DAY = 86_400.0


def moment(world: World) -> None:
    world.advance(world.random.uniform(0.1, 3.0))


def beat(world: World) -> None:
    world.advance(world.random.uniform(5.0, 20.0), slot=1.0)


def while_(world: World) -> None:
    world.advance(world.random.uniform(30.0, 120.0), slot=3.0)


def quarter(world: World) -> None:
    world.advance(world.random.uniform(600.0, 1_500.0))


def hour(world: World) -> None:
    world.advance(world.random.uniform(600.0, 7_200.0))


def days(world: World) -> None:
    world.advance(world.random.uniform(0.4, 2.6) * DAY)


def list_some(world: World) -> None:
    for _ in range(world.random.choice((1, 1, 1, 4))):
        today, rng = day_of(world.now), world.random
        first = today + datetime.timedelta(days=rng.choice((0, 0, 0, 1, 3)))
        last = None if rng.random() < 0.6 else first + datetime.timedelta(days=rng.choice((0, 0, 1, 30)))
        # Rather one of those whose fingerprints collide.
        among = rng.choice((subjects.COLLIDING, subjects.COMPANIES + subjects.PERSONS))
        world.ledger.add(world.now, rng.randrange(among), first, last)


def change(world: World) -> None:
    numbers = world.standing()
    gone = [number for number in world.ledger.head.entries if number not in numbers]
    rng, ledger = world.random, world.ledger
    kind = rng.choice(("end", "end", "annul", "stay", "lift", "correct", "again"))
    if kind == "again" and gone:
        ledger.amend(world.now, rng.choice(gone), ended=False, annulled=False)
    elif numbers:
        changes: dict[str, dict[str, object]] = {
            "end": {"ended": True},
            "annul": {"annulled": True},
            "stay": {"stayed": True},
            "lift": {"stayed": False},
            "correct": {"subject": rng.randrange(subjects.COMPANIES)},
            "again": {"last": day_of(world.now) + datetime.timedelta(days=1)},
        }
        ledger.amend(world.now, rng.choice(numbers), **changes[kind])


def publish(world: World) -> None:
    rng = world.random
    policies = {each: Policy(rng.random() < 0.5, rng.random() < 0.5) for each in MATTERS}
    world.ledger.publish(world.now, policies)


def restore(world: World) -> None:
    lost = world.random.randint(0, 4)
    for stream in list(world.network.streams):
        stream.cut(silently=world.random.random() < 0.5)
    world.ledger.restore(world.now, max(world.ledger.head.revision - lost, 0))
    for gateway in world.gateways:
        gateway.stop()
        gateway.behind = 0.0
        gateway.start()


def rotate(world: World) -> None:
    world.ledger.rotate(world.now)


def lag(world: World) -> None:
    world.random.choice(world.gateways).behind = world.random.choice((0.0, 2.0, 8.0, 30.0))


def stop_gateway(world: World) -> None:
    gateway = world.random.choice(world.gateways)
    if gateway.up:
        gateway.stop()
        for stream in list(world.network.streams):
            if stream.gateway is gateway:
                stream.cut(silently=world.random.random() < 0.3)
    else:
        gateway.start()


def cut(world: World) -> None:
    for stream in list(world.network.streams):
        if world.random.random() < 0.6:
            stream.cut(silently=world.random.random() < 0.5)


def kill(world: World) -> None:
    process = world.random.choice(world.processes)
    if process.alive:
        process.kill()
        if world.random.random() < 0.7:
            process.start()
    else:
        process.start()


def fuse(world: World) -> None:
    """Kill at a file operation to come, or fail there; start again what was killed before."""
    process = world.random.choice(world.processes)
    if not process.alive:
        process.start()
    process.fuse = (world.random.randint(1, 12), world.random.random() < 0.5, world.random.random() < 0.25)


def pause(world: World) -> None:
    process = world.random.choice(world.processes)
    process.frozen_until = world.now + world.random.choice((5.0, 15.0, 60.0, 1_000.0))


def reboot(world: World) -> None:
    machine = world.random.choice(world.machines)
    here = [each for each in world.processes if each.machine is machine]
    for process in here:
        if process.alive:
            process.kill()
    machine.booted_at = world.now - world.random.choice((5.0, 30.0, 2_000.0))
    for process in here:
        process.start()


def turn_clock(world: World) -> None:
    machine = world.random.choice(world.machines)
    machine.skew = world.random.choice((0.0, 0.0, 200.0, -200.0, 1_800.0, -1_800.0, DAY, -DAY, -3 * DAY))
    for process in world.processes:
        process.set_back |= process.machine.is_behind


def freeze(world: World) -> None:
    world.network.frozen = not world.network.frozen


Action = Callable[[World], None]
ACTIONS: dict[str, Action] = {
    "moment": moment,
    "beat": beat,
    "while": while_,
    "quarter": quarter,
    "hour": hour,
    "days": days,
    "list": list_some,
    "change": change,
    "publish": publish,
    "restore": restore,
    "rotate": rotate,
    "lag": lag,
    "gateway": stop_gateway,
    "cut": cut,
    "kill": kill,
    "fuse": fuse,
    "pause": pause,
    "reboot": reboot,
    "clock": turn_clock,
    "freeze": freeze,
}
ALWAYS = {"moment": 4.0, "beat": 3.0, "while": 1.0, "list": 3.0, "change": 3.0}
_SOMETIMES = {
    "quarter": 0.4,
    "hour": 0.3,
    "days": 0.15,
    "publish": 0.5,
    "restore": 0.5,
    "rotate": 0.4,
    "lag": 1.0,
    "gateway": 1.0,
    "cut": 1.0,
    "kill": 1.0,
    "fuse": 1.5,
    "pause": 0.5,
    "reboot": 0.4,
    "clock": 0.8,
    "freeze": 0.5,
}
_RATES = ("drop", "duplicate", "reorder", "truncate", "corrupt", "replay", "forge", "refuse")


def swarm_of(seed: int) -> Swarm:
    """Draw what a schedule is made of: of everything that may go wrong about a third, each at a rate of its own."""
    rng = random.Random(seed)
    rates = {name: rng.choice((0.02, 0.1, 0.3)) for name in _RATES if rng.random() < 0.25}
    weights = dict(ALWAYS)
    weights.update({name: weight for name, weight in _SOMETIMES.items() if rng.random() < 0.35})
    return Swarm(
        faults=Faults(
            **rates,
            delay=rng.choice((0.0, 0.0, 2.0, 20.0)),
            lasting=rng.choice(("", "", "", "", "watch-refused", "watch-deaf", "watch-mute")),
        ),
        weights=weights,
        steps=rng.choice((12, 20, 35)),
        machines=rng.choice(((1,), (1,), (2,), (1, 1), (3,))),
        gateways=rng.choice((1, 2)),
        places=rng.choice((1, 16)),
        recalled=rng.choice((0, 4, 1_000)),
        bloom=rng.random() < 0.2,
    )
