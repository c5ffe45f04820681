"""What `lanjie status` shows of the listeners' certificates: their ends, and in words what is wrong."""

import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from lanjie_gateway.cli import render

SOON_DAYS: Final = 30
"""From here on an end is told as something to see to."""


def certificates_dict(status: Any) -> dict[str, Any]:
    """Return everything as JSON values."""
    return render.message_dict(status) | {"troubles": troubles(status)}


def certificates_view(status: Any) -> RenderableType:
    """Return what a person looks at."""
    facts = {
        "gateway": _end(status.end_time, status.days_left),
        "authority of clients": _end(status.client_ca_end_time, status.client_ca_days_left),
    }
    wrong = [Text(f"! {trouble}", style="bold yellow") for trouble in troubles(status)]
    return Group(render.facts_panel("certificates", facts), *wrong)


def troubles(status: Any) -> list[str]:
    """Return a line for each thing that is wrong with them."""
    lines = [f"the certificate files are not used, the old go on: {status.fault}"] if status.fault else []
    for what, days in (
        ("the gateway's certificate", status.days_left),
        ("an authority of clients", status.client_ca_days_left),
    ):
        if days < 0:
            lines.append(f"{what} has expired")
        elif days < SOON_DAYS:
            lines.append(f"{what} expires in {_days(days)}")
    return lines


def _end(at: Any, days: float) -> str:
    told = render.local_time(at.ToDatetime(datetime.UTC))
    return f"until {told} · {_days(days)}" if days >= 0 else f"expired {told}"


def _days(number: float) -> str:
    return "1 day" if int(number) == 1 else f"{int(number):,} days"
