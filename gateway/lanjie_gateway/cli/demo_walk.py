"""The walk of `lanjie demo`: what a counter, a tender and an authority do, each answer verified."""

import datetime
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import invented, lists, render
from lanjie_gateway.cli.demo import VerificationError
from lanjie_gateway.cli.gateway_file import Listener, Person, Target

if TYPE_CHECKING:
    import lanjie

BIDDERS, LISTED, WITHOUT_MEASURE = 1_000, 12, 4
LOCAL_CHECKS: Final = 5_000
CONFIRMED_CHECKS: Final = 250
TENDER: Final = "procurement.supplier"
PURPOSE: Final = "demonstration on invented data"

Row = Mapping[str, str]


class Walk:
    """One walk over the invented listings.

    Args:
        target: the gateway.
        state: directory of the SDK's state.
        rows: what was imported.
        today: the day they were made up for.
        console: where the screens go.
        seed: of the subjects that are made up on the way.
    """

    def __init__(
        self, target: Target, state: Path, rows: Sequence[Row], today: datetime.date, console: Console, *, seed: int
    ) -> None:
        self._target = target
        self._state = state
        self._rows = rows
        self._today = today
        self._console = console
        self._seed = seed
        # Another stream than that of the listings: equal draws would give equal organisation codes.
        self._random = random.Random(seed + 1)  # noqa: S311  made-up subjects
        self._by_number = {row["id_number"]: row for row in rows}
        self._times = Counter(row["id_number"] for row in rows)

    def all(self) -> dict[str, Any]:
        """Show every screen; return the figures.

        Raises:
            VerificationError: an answer is not as the data were made up.
        """
        import lanjie

        gateway_file = self._target.gateway_file
        if gateway_file is None:
            raise ValueError("the walk needs a gateway file")
        with lanjie.Client.from_file(gateway_file, state_dir=self._state) as client:
            started = time.perf_counter()
            client.wait_ready(timeout=30)
            ready = time.perf_counter() - started
            self._counter(client, ready)
            tender, bidder = self._tender(client)
            latency = self._latency(client)
            removal = self._removal(client, bidder)
        return {"tender": tender, "latency_us": latency, "removal": removal}

    def _counter(self, client: "lanjie.Client", ready: float) -> None:
        self._heading("at the counter")
        self._console.print(
            f"the SDK pulled, verified and indexed the signed set of company fingerprints in {ready:.2f} s"
        )
        company, quiet = self._one("SXBZXR", "enterprise"), self._one("WHLYYZ", "enterprise")
        person = self._one("SXBZXR", "natural_person")
        self._case(
            client,
            "a listed company applies as a supplier",
            company,
            {"matter": TENDER, "name": company["name"]},
            ("INTERCEPT", "RESTRICT"),
        )
        self._case(
            client, "a listed company for whose list no measure names this matter", quiet, {"matter": TENDER}, ("PASS",)
        )
        self._case(
            client,
            "a listed person is to be registered as legal representative",
            person,
            {"matter": "registry.legal_rep", "role": "legal_representative", "name": person["name"]},
            ("INTERCEPT",),
        )
        unlisted = self._unlisted(1)[0]
        self._case(client, "a company that is on no list", unlisted, {"matter": TENDER}, ("PASS",))

    def _case(
        self, client: "lanjie.Client", title: str, row: Row, asked: dict[str, Any], expected: tuple[str, ...]
    ) -> None:
        started = time.perf_counter()
        decision = client.check(_text(row), purpose=PURPOSE, **asked)
        took = _duration(time.perf_counter() - started)
        where = "by the SDK itself" if decision.source.name == "LOCAL" else "by the gateway"
        question = f"{decision.masked_identifier} · {asked['matter']} · answered {where} in {took}"
        self._console.print(render.decision_panel(decision, title=f"{title} (invented)", question=question))
        verify(decision.outcome.name in expected, f"{title}: {decision.outcome.name}, not {' or '.join(expected)}")
        passed = decision.outcome.name == "PASS"
        verify(passed == (not decision.measures), f"{title}: measures and outcome do not agree")
        verify(not passed or not decision.listings, f"{title}: a pass tells of a listing")

    def _tender(self, client: "lanjie.Client") -> tuple[dict[str, Any], Row]:
        bidders = invented.tender(self._seed + 2, self._rows, BIDDERS, LISTED, WITHOUT_MEASURE, today=self._today)
        started = time.perf_counter()
        subjects, names = ([bidder[column] for bidder in bidders] for column in invented.BIDDER_COLUMNS)
        many = client.check_many(subjects, names=names, matter=TENDER, purpose=PURPOSE)
        decisions = list(many)
        seconds = time.perf_counter() - started
        found = [(bidder, each) for bidder, each in zip(bidders, decisions, strict=True) if each.measures]
        outcomes = Counter(each.outcome.name for each in decisions)
        listed = [self._by_number.get(bidder["identifier"].removeprefix("uscc:")) for bidder in bidders]
        silent = sum(row is not None and not each.measures for row, each in zip(listed, decisions, strict=True))
        revisions = {each.revision for each in decisions if each.source.name == "GATEWAY"}

        self._heading(f"a tender: {BIDDERS:,} bidders at bid opening, {_duration(seconds)}")
        self._console.print(_bidders_table(found))
        revision = ", ".join(str(each) for each in sorted(revisions))
        self._console.print(
            f"judged on revision {revision} of the list: {len(found)} bear a measure, {outcomes['PASS']:,} pass; "
            f"{silent} of these are listed, but no measure names this matter, so the answer does not tell (Art. 40, 47)"
        )
        verify(len(decisions) == BIDDERS, "not every bidder was answered")
        verify(len(found) == LISTED - WITHOUT_MEASURE, f"{len(found)} bidders bear a measure")
        verify(silent == WITHOUT_MEASURE, f"{silent} listed bidders bear none")
        verify(outcomes["PASS"] == BIDDERS - len(found), "the others do not all pass")
        verify(all(_bears(row) for row, each in zip(listed, decisions, strict=True) if each.measures), "wrong bidder")
        verify(len(revisions) == 1, "the bidders were judged on several revisions")
        stopped = next(bidder for bidder, each in found if each.outcome.name == "INTERCEPT")
        figures = {"bidders": BIDDERS, "listed": LISTED, "with_measures": len(found), "seconds": round(seconds, 3)}
        return figures, self._by_number[stopped["identifier"].removeprefix("uscc:")]

    def _latency(self, client: "lanjie.Client") -> dict[str, dict[str, float]]:
        strangers = [_text(row) for row in self._unlisted(LOCAL_CHECKS)]
        bearing = [_text(row) for row in self._rows if row["list_type"] == "SXBZXR" and self._fits(row, "enterprise")]
        silent = [_text(row) for row in self._rows if row["list_type"] != "SXBZXR" and self._fits(row, "enterprise")]
        cases = {
            "local: not listed": ("LOCAL", strangers),
            "confirmed, no effect": ("GATEWAY", silent[:CONFIRMED_CHECKS]),
            "confirmed, effect; record durable first": ("GATEWAY", bearing[:CONFIRMED_CHECKS]),
        }
        matters = {"confirmed, no effect": "school.enrol"}
        figures: dict[str, dict[str, float]] = {}
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("answer")
        for heading in ("checks", "p50", "p99"):
            table.add_column(heading, justify="right")
        for name, (source, subjects) in cases.items():
            times = _timed(client, subjects, matters.get(name, TENDER), source)
            verify(len(times) > 0.9 * len(subjects), f"{name}: answered elsewhere")
            cuts = statistics.quantiles(times, n=100)
            figures[name] = {"checks": len(times), "p50": round(cuts[49], 1), "p99": round(cuts[98], 1)}
            table.add_row(name, f"{len(times):,}", _duration(cuts[49] / 1e6), _duration(cuts[98] / 1e6))
        self._heading("how long one check takes, one after the other, on this machine")
        self._console.print(table)
        return figures

    def _removal(self, client: "lanjie.Client", row: Row) -> dict[str, Any]:
        from lanjie.v1 import listing_pb2
        from lanjie_gateway.cli.admin import connect

        with connect(self._target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
            request = listing_pb2.FindRequest(identifier=_text(row), purpose=PURPOSE)
            listing = admin.call(admin.listings.Find, request).listings[0]
            before = client.check(_text(row), matter=TENDER, purpose=PURPOSE)
            started = time.perf_counter()
            removed = lists.record(
                admin,
                listing.listing_id,
                "REMOVED",
                reason="obligation fulfilled (invented)",
                document="(示例)移出1号",
            )
            committed = time.perf_counter()
            after = client.check(_text(row), matter=TENDER, purpose=PURPOSE, at_least_revision=removed.revision)
            answered = time.perf_counter()
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("step", "outcome", "revision", "took"):
            table.add_column(heading)
        table.add_row("check before", render.outcome_text(before.outcome.name), str(before.revision), "")
        table.add_row("removal, committed and applied", "", str(removed.revision), _duration(committed - started))
        table.add_row(
            "check after", render.outcome_text(after.outcome.name), str(after.revision), _duration(answered - committed)
        )
        self._heading("one subject is removed from its list, and passes at once")
        self._console.print(Text(f"{after.masked_identifier} · {listing.authority}"))
        self._console.print(table)
        verify(before.outcome.name == "INTERCEPT", "the subject was not intercepted before")
        verify(after.outcome.name == "PASS", "the subject does not pass after its removal")
        verify(after.revision >= removed.revision, "the answer is older than the removal")
        milliseconds = round((answered - started) * 1000, 1)
        return {"revision": removed.revision, "removed_and_passing_after_ms": milliseconds}

    def _one(self, list_type: str, kind: str) -> Row:
        return next(row for row in self._rows if row["list_type"] == list_type and self._fits(row, kind))

    def _fits(self, row: Row, kind: str) -> bool:
        single = self._times[row["id_number"]] == 1
        return row["subject_kind"] == kind and single and invented.in_force(row, self._today)

    def _unlisted(self, count: int) -> list[Row]:
        found: list[Row] = []
        while len(found) < count:
            number = invented.uscc(self._random)
            if number not in self._by_number:
                found.append({"id_kind": "uscc", "id_number": number})
        return found

    def _heading(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"{text} · invented data", style="dim", align="left")


def verify(holds: bool, what: str) -> None:
    """Raise unless it holds.

    Raises:
        VerificationError: it does not.
    """
    if not holds:
        raise VerificationError(what)


def _bears(row: Row | None) -> bool:
    return row is not None and row["list_type"] in ("SXBZXR", "TQNMGGZ", "SJYZWF")


def _bidders_table(found: Sequence[tuple[Row, "lanjie.Decision"]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    table.add_column("bidder (invented)", width=25, overflow="fold")
    table.add_column("outcome", no_wrap=True)
    table.add_column("measure, list", ratio=1, overflow="fold")
    table.add_column("decision", ratio=1, overflow="fold")
    for bidder, each in found:
        table.add_row(
            f"{bidder['name']}\n{each.masked_identifier}",
            render.outcome_text(each.outcome.name),
            "\n".join([measure.code for measure in each.measures] + [one.list_type_name for one in each.listings]),
            "\n".join(f"{listing.authority}\n{listing.decision_no}" for listing in each.listings),
        )
    return table


def _timed(client: "lanjie.Client", subjects: Sequence[str], matter: str, source: str) -> list[float]:
    """Return microseconds of the checks that were answered where expected."""
    check: Callable[..., lanjie.Decision] = client.check
    times: list[float] = []
    for subject in subjects:
        started = time.perf_counter_ns()
        decision = check(subject, matter=matter, purpose=PURPOSE)
        ended = time.perf_counter_ns()
        if decision.source.name == source:
            times.append((ended - started) / 1000)
    return times


def _text(row: Row) -> str:
    return f"{row['id_kind']}:{row['id_number']}"


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
