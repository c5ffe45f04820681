"""Races one caller's checks against what somebody would take instead: same subjects, same seed, in turns, in one run.

    python -m loadtests.races GATEWAY_FILE COUNT [--calls N] [--json]

The others only look a number up; they keep no record of the inquiry (Art. 39), know no measure and no matter. Every
answer of everybody is compared with the truth. COUNT is that of the listings with which `loadtests.gateway` filled the
state. Needs the programs that the tests use: Valkey or Redis and PostgreSQL; each is started here and ended.
"""

import argparse
import contextlib
import datetime
import functools
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import psycopg

import lanjie
from lanjie_gateway.cli.gateway_file import Listener, Person, Target
from loadtests import echo
from loadtests.gateway import PURPOSE, SEED
from loadtests.histogram import Histogram
from loadtests.openloop import request
from loadtests.population import MATTERS, Population
from loadtests.table import Row, report, row
from tests.support.postgres import serve
from tests.support.valkey import valkey

ROUNDS = 3
BATCH = 100
MANY = 100_000
BIDDER, _, LAND = MATTERS
Ask = Callable[[Any], Any]


class Race:
    """Contenders with their questions and right answers, timed in turns."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, Ask, Sequence[Any], Sequence[Any], Ask]] = []
        self.p50: dict[str, list[float]] = {}
        self.p99: dict[str, list[float]] = {}
        self.wrong = self.asked = 0

    def enter(
        self, name: str, ask: Ask, questions: Iterable[Any], truth: Ask, read: Ask = lambda answer: answer
    ) -> None:
        """Add a contender; `read` makes of its answers what `truth` says, and is not timed."""
        asked = list(questions)
        self._entries.append((name, ask, asked, [truth(each) for each in asked], read))

    def run(self) -> None:
        """Run all, in turns."""
        for round_ in range(ROUNDS):
            # Another order every time: who comes after whom must favour nobody.
            for entry in random.Random(round_).sample(self._entries, len(self._entries)):
                self._time(*entry)

    def _time(self, name: str, ask: Ask, asked: Sequence[Any], right: Sequence[Any], read: Ask) -> None:
        histogram, answers, clock = Histogram(), [], time.perf_counter
        for each in asked:
            begun = clock()
            answer = ask(each)
            histogram.add(clock() - begun)
            answers.append(answer)
        self.asked += len(asked)
        self.wrong += sum(read(answer) != truth for answer, truth in zip(answers, right, strict=True))
        self.p50.setdefault(name, []).append(histogram.percentile(0.5))
        self.p99.setdefault(name, []).append(histogram.percentile(0.99))

    def ratio(self, one: str, other: str, times: dict[str, list[float]] | None = None) -> list[float]:
        """Return how many times as long as `other` `one` took, round by round."""
        times = times or self.p50
        return [a / b for a, b in zip(times[one], times[other], strict=True)]

    def speed(self, name: str, items: int) -> list[float]:
        """Return millions of items a second, round by round."""
        return [items / value for value in self.p50[name]]


def measured(file: Path, population: Population, calls: int) -> list[Row]:
    """Run the races."""
    race, rng = Race(), random.Random(5)
    firms, listed = population.companies, population.listed
    looked_up = [rng.choice(listed) if rng.random() < 0.1 else rng.choice(firms) for _ in range(calls)]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lanjie-races-")))
        _enter_others(stack, scratch, race, population, looked_up)
        clients = {}
        kinds: dict[str, dict[str, Any]] = {"Bloom": {}, "sorted": {"filter": "sorted"}, "": {"local": False}}
        for name, options in kinds.items():
            # Its records wait in the spool, as its target has it: uploads are the gateway's load, not the counter's.
            options["upload_interval"] = 3_600
            client = clients[name] = lanjie.Client.from_file(file, state_dir=scratch / f"sdk{name}", **options)
            stack.callback(client.close, 0)
            client.wait_ready(timeout=120)
        while clients["Bloom"].sync_status().filter != "bloom":
            time.sleep(0.02)
        for name in ("Bloom", "sorted"):
            free = [rng.choice(firms) for _ in range(calls * 4)]
            race.enter(f"local pass, {name}", _check(clients[name], BIDDER), free, lambda _: ("PASS", "LOCAL"), _read)
        many = functools.partial(clients["Bloom"].check_many, matter=BIDDER, purpose=PURPOSE)
        tender = [rng.choice(firms) for _ in range(MANY)]
        race.enter(
            "check_many", many, [tender], lambda _: {("PASS", "LOCAL")}, lambda decisions: set(map(_read, decisions))
        )
        _enter_confirmed(stack, file, race, clients[""], population, calls=calls)
        race.run()
    return _rows(race)


def _check(client: lanjie.Client, matter: str) -> Ask:
    return functools.partial(client.check, matter=matter, purpose=PURPOSE)


def _read(decision: lanjie.Decision) -> tuple[str, str]:
    return decision.outcome.name, decision.source.name


def _enter_confirmed(
    stack: contextlib.ExitStack, file: Path, race: Race, client: lanjie.Client, population: Population, *, calls: int
) -> None:
    restricted = [each for each in population.listed if population.live[each] and each.startswith("uscc")]
    rng = random.Random(6)
    kinds = {
        "company": (population.companies, LAND, "PASS"),
        "person": (population.persons, LAND, "PASS"),
        "with effect": (restricted, BIDDER, "RESTRICT"),
    }
    endpoint = Target(gateway_file=file).endpoint(Listener.SCREENING, Person.INQUIRER)
    channel = stack.enter_context(grpc.insecure_channel(endpoint.address))
    raw: Any = channel.unary_unary("/lanjie.v1.ScreeningService/Check")
    told = (("authorization", f"Bearer {endpoint.token}"),)
    for name, (subjects, matter, outcome) in kinds.items():
        asked = [rng.choice(subjects) for _ in range(calls)]
        wire = [request(each, matter) for each in asked]
        size = len(raw(wire[0], metadata=told))
        address, _ = stack.enter_context(echo.running(size))
        bare: Any = stack.enter_context(grpc.insecure_channel(address)).unary_unary(echo.METHOD)
        race.enter(f"{name}, echo", bare, wire, functools.partial(echo.reply, size=size))
        race.enter(f"{name}, SDK", _check(client, matter), asked, functools.partial(_gateways, outcome), _read)


def _gateways(outcome: str, _: str) -> tuple[str, str]:
    return outcome, "GATEWAY"


def _enter_others(
    stack: contextlib.ExitStack, scratch: Path, race: Race, population: Population, asked: Sequence[str]
) -> None:
    """Enter what a user would pick instead, each filled with the same list."""
    record = b"r" * 400
    table = {subject: record for subject, live in population.live.items() if live}

    def truth(subject: str) -> bool:
        return bool(population.live.get(subject))

    race.enter("dict", lambda subject: subject in table, asked, truth)

    lite = stack.enter_context(contextlib.closing(sqlite3.connect(scratch / "listed.sqlite3")))
    lite.execute("CREATE TABLE listed (subject TEXT PRIMARY KEY, record BLOB) WITHOUT ROWID")
    lite.executemany("INSERT INTO listed VALUES (?, ?)", table.items())
    lite.commit()
    found_lite = "SELECT record FROM listed WHERE subject = ?"
    race.enter("SQLite file", lambda subject: lite.execute(found_lite, (subject,)).fetchone() is not None, asked, truth)

    server = stack.enter_context(valkey())
    redis: Any = stack.enter_context(server.client())
    items = list(table.items())
    for start in range(0, len(items), 5_000):
        part = dict(items[start : start + 5_000])
        redis.hset("listed", mapping=part)
        redis.sadd("members", *part)
    race.enter("redis-py HGET", lambda subject: redis.hget("listed", subject) is not None, asked, truth)
    batches = [asked[start : start + BATCH] for start in range(0, len(asked) - BATCH + 1, BATCH)]
    race.enter(
        "redis-py SMISMEMBER",
        lambda batch: redis.smismember("members", batch),
        batches,
        lambda batch: [int(truth(each)) for each in batch],
    )

    postgres = next(running := serve())
    stack.callback(running.close)  # type: ignore[attr-defined]
    url = postgres.empty().replace("postgresql+psycopg:", "postgresql:")
    with psycopg.connect(url) as filling:
        filling.execute("CREATE TABLE listed (subject text PRIMARY KEY, ends date, record bytea)")
        with filling.cursor().copy("COPY listed FROM STDIN") as copy:
            for subject in table:
                copy.write_row((subject, datetime.date(2099, 1, 1), record))
        filling.execute("ANALYZE listed")
    connection = stack.enter_context(psycopg.connect(url, autocommit=True))
    cursor = connection.cursor()
    today = datetime.datetime.now(datetime.UTC).date()
    found = "SELECT record FROM listed WHERE subject = %s AND ends >= %s"
    race.enter(
        "PostgreSQL, prepared select",
        lambda subject: cursor.execute(found, (subject, today), prepare=True).fetchone() is not None,
        asked,
        truth,
    )


def _rows(race: Race) -> list[Row]:
    local = {name: f"local pass, {name}" for name in ("Bloom", "sorted")}
    rows = [
        row(f"{local['Bloom']}, p50", race.p50[local["Bloom"]], "us", 4),
        row(f"{local['sorted']}, p50", race.p50[local["sorted"]], "us", 3.5),
        row("local pass, Bloom, p99", race.p99[local["Bloom"]], "us", None),
        row("redis-py HGET / local pass", race.ratio("redis-py HGET", local["Bloom"]), "x", 5, at_least=True),
    ]
    names = ("dict", "SQLite file", "redis-py HGET", "PostgreSQL, prepared select")
    rows += [row(f"{name}, p50", race.p50[name], "us", None) for name in names]
    many, sets = race.speed("check_many", MANY), race.speed("redis-py SMISMEMBER", BATCH)
    rows += [
        row("check_many of 100,000 local", many, "M/s", 0.4, 3, at_least=True),
        row("redis-py SMISMEMBER, batches of 100", sets, "M/s", None, 3),
        row("check_many / SMISMEMBER", [a / b for a, b in zip(many, sets, strict=True)], "x", 1, at_least=True),
    ]
    for kind, what, targets in (
        ("company", "confirmed answer without effect, company", (1.2, 1.3)),
        ("person", "confirmed answer without effect, person", (1.2, 1.3)),
        ("with effect", "confirmed answer with effect, durable", (1.8, None)),
    ):
        ours, bare = f"{kind}, SDK", f"{kind}, echo"
        rows.append(row(f"bare grpc.aio echo of the size, {kind}, p50", race.p50[bare], "us", None))
        for share, times, target in (("p50", race.p50, targets[0]), ("p99", race.p99, targets[1])):
            rows.append(row(f"{what} / echo, {share}", race.ratio(ours, bare, times), "x", target))
    rows.append(row("redis-py HGET / confirmed answer, p50", race.ratio("redis-py HGET", "company, SDK"), "x", None))
    return [*rows, row(f"races: wrong answers of {race.asked:,}", [race.wrong], "", 0, 0)]


def short(file: Path, population: Population, full: bool) -> list[Row]:  # noqa: FBT001  an argument of the command line
    """Measure what `./run bench` shows of the races."""
    return measured(file, population, 5_000 if full else 1_000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.races", description=__doc__)
    parser.add_argument("gateway_file", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--calls", type=int, default=2_000, help="questions a contender is asked in a round")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = measured(options.gateway_file, Population(SEED, options.count), options.calls)
    report(rows, "races", as_json=options.json)


if __name__ == "__main__":
    main()
