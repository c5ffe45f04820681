"""What `lanjie status` shows of the sync: the view, the SDKs worst first, and in words what is wrong."""

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import render
from lanjie_matcher.ages import DEFAULT_BOUNDS

SHOWN_SDKS: Final = 20
ID_SHOWN: Final = 12
LATE_SECONDS: Final = DEFAULT_BOUNDS.fresh
"""Without a contact for so long an SDK's set is not fresh any more."""
_REFUSED: Final = "refused-"
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def sync_dict(status: Any, now: datetime.datetime) -> dict[str, Any]:
    """Return everything as JSON values, the SDKs worst first."""
    values = render.message_dict(status)
    values["counts"] = dict(status.counts)
    values["sdks"] = [render.message_dict(sdk) for sdk in worst_first(status.sdks, now)]
    return values | {"troubles": troubles(status, now)}


def sync_view(status: Any, now: datetime.datetime) -> RenderableType:
    """Return what a person looks at."""
    wrong = [Text(f"! {trouble}", style="bold yellow") for trouble in troubles(status, now)]
    parts: list[RenderableType] = [_panel(status), *wrong]
    parts.append(_table(worst_first(status.sdks, now), now) if status.sdks else Text("No SDK has come yet."))
    return Group(*parts)


def troubles(status: Any, now: datetime.datetime) -> list[str]:
    """Return a line for each thing that is wrong with the sync."""
    silent = [sdk for sdk in status.sdks if _age(sdk, now) > LATE_SECONDS]
    late = [sdk for sdk in status.sdks if _age(sdk, now) <= LATE_SECONDS < sdk.lag_seconds]
    refusals = Counter(sdk.last_refusal for sdk in status.sdks if sdk.last_refusal)
    lines = []
    if refusals:
        reasons = ", ".join(reason if n == 1 else f"{reason} ({n})" for reason, n in refusals.most_common())
        number = refusals.total()
        lines.append(f"{_sdks(number)} {'refuses' if number == 1 else 'refuse'} updates: {reasons}")
    if silent:
        lines.append(
            f"{_sdks(len(silent))} {_have(silent)} not been heard of for more than {LATE_SECONDS:.0f} s: "
            "stopped, or cut off"
        )
    if late:
        lines.append(f"{_sdks(len(late))} {_have(late)} not got a commit that is older than {LATE_SECONDS:.0f} s")
    return lines


def worst_first(sdks: Iterable[Any], now: datetime.datetime) -> list[Any]:
    """Return those that refuse, then the silent ones, then the rest; in each the one that lags most first."""
    return sorted(
        sdks,
        key=lambda sdk: (
            not sdk.last_refusal,
            _age(sdk, now) <= LATE_SECONDS,
            -sdk.lag_seconds,
            -_age(sdk, now),
            sdk.sdk_id,
        ),
    )


def _panel(status: Any) -> RenderableType:
    counts = status.counts
    connected = sum(sdk.connected for sdk in status.sdks)
    refusals = {name.removeprefix(_REFUSED): n for name, n in counts.items() if name.startswith(_REFUSED)}
    return render.facts_panel(
        "sync",
        {
            "view": f"revision {status.revision:,} · epoch {status.epoch} · generation {status.generation}",
            "fingerprints": f"{status.count:,}",
            "deltas": f"from revision {status.journal_from_revision:,} on; who has less takes a snapshot",
            "updates sent": _counted({name: counts[name] for name in ("heartbeat", "delta", "snapshot", "wait")}),
            "refusals": _counted(dict(Counter(refusals).most_common())) or "none",
            "SDKs": f"{connected:,} connected of {len(status.sdks):,} known",
        },
    )


def _table(sdks: Sequence[Any], now: datetime.datetime) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for heading, numeric in (
        *(("SDK", False), ("department", False), ("connected", False), ("revision", True)),
        *(("behind", True), ("for", True), ("last heard", True), ("refuses", False)),
    ):
        table.add_column(
            heading,
            justify="right" if numeric else "left",
            no_wrap=heading != "department",
            min_width={"SDK": ID_SHOWN, "department": 8}.get(heading),
            overflow="fold" if heading == "department" else "ellipsis",
        )
    for sdk in sdks[:SHOWN_SDKS]:
        age = _age(sdk, now)
        table.add_row(
            sdk.sdk_id[:ID_SHOWN],
            sdk.department,
            "yes" if sdk.connected else "no",
            f"{sdk.revision:,}",
            f"{sdk.lag_revisions:,}" if sdk.lag_revisions else "-",
            _span(sdk.lag_seconds) if sdk.lag_revisions else "-",
            f"{_span(age)} ago",
            sdk.last_refusal,
            style="yellow" if sdk.last_refusal or age > LATE_SECONDS or sdk.lag_seconds > LATE_SECONDS else "",
        )
    if len(sdks) > SHOWN_SDKS:
        table.caption = Text(f"the worst {SHOWN_SDKS} of {len(sdks):,}; --json gives all")
    return table


def _age(sdk: Any, now: datetime.datetime) -> float:
    """Return the seconds since an SDK was heard of."""
    heard: datetime.datetime = sdk.last_contact_time.ToDatetime(datetime.UTC)
    return max(0.0, (now - heard).total_seconds())


def _span(seconds: float) -> str:
    """Return a time of so many seconds in its largest unit, rounded down."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "< 1 s"


def _counted(counts: dict[str, int]) -> str:
    return " · ".join(f"{n:,} {name}" for name, n in counts.items())


def _sdks(number: int) -> str:
    return "1 SDK" if number == 1 else f"{number:,} SDKs"


def _have(several: Sequence[Any]) -> str:
    return "has" if len(several) == 1 else "have"
