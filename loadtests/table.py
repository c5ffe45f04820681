"""The table that the measurements print: what was measured, its spread, the target, and whether it was met.

``python -m loadtests.table < bench.json`` prints the table of a run for docs/performance.md.
"""

import json
import statistics
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
COLUMNS = ("measured", "value", "spread", "target", "met")


def row(
    name: str, values: list[float], unit: str, target: float | None, digits: int = 2, *, at_least: bool = False
) -> Row:
    """Return one row: the median of what was measured, and its spread.

    A target is met by what is not above it, or not below it where it says `at_least`.
    """
    value = statistics.median(values)
    return {
        "name": name,
        "value": round(value, digits),
        "unit": unit,
        "target": target,
        "at_least": at_least,
        "met": None if target is None else (value >= target if at_least else value <= target),
        "spread": [round(min(values), digits), round(max(values), digits)],
    }


def print_table(rows: list[Row], title: str) -> None:
    """Print rows for people."""
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "measured" else "right")
    for cells in map(cells_of, rows):
        table.add_row(*cells)
    Console(width=None if Console().is_terminal else 130).print(table)


def cells_of(each: Row) -> list[str]:
    """Return the cells of one row as text."""
    low, high = each["spread"]
    target = "" if each["target"] is None else f"{'≥' if each['at_least'] else '≤'} {each['target']:,g}"
    return [
        each["name"],
        f"{_text(each['value'])} {each['unit']}".strip(),
        "" if low == high else f"{_text(low)} – {_text(high)}",
        target,
        {None: "", True: "yes", False: "no"}[each["met"]],
    ]


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"


def report(rows: list[Row], title: str, *, as_json: bool) -> None:
    """Print rows, for programs or for people."""
    if as_json:
        print(json.dumps({"rows": rows}, indent=2))
    else:
        print_table(rows, title)


if __name__ == "__main__":
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for found in json.load(sys.stdin)["rows"]:
        cells = cells_of(found)
        print(f"| {' | '.join('**no**' if cell == 'no' else cell for cell in cells)} |")
