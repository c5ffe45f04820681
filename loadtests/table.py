"""The table that the measurements print: what was measured, its spread, the target, and whether it was met."""

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def row(name: str, values: list[float], unit: str, target: float | None, digits: int = 2) -> Row:
    """Return one row: the median of what was measured, and its spread. A target is met by what is not above it."""
    value = statistics.median(values)
    return {
        "name": name,
        "value": round(value, digits),
        "unit": unit,
        "target": target,
        "met": None if target is None else value <= target,
        "spread": [round(min(values), digits), round(max(values), digits)],
    }


def print_table(rows: list[Row], title: str) -> None:
    """Print rows for people."""
    table = Table(title=title)
    for column in ("measured", "value", "spread", "target", "met"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    for each in rows:
        low, high = each["spread"]
        spread = "" if low == high else f"{low:g} - {high:g}"
        met = {None: "", True: "yes", False: "no"}[each["met"]]
        target = "" if each["target"] is None else f"{each['target']:g}"
        table.add_row(each["name"], f"{each['value']:g} {each['unit']}", spread, target, met)
    Console().print(table)
