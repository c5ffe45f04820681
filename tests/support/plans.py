"""No statement of the gateway goes through a whole table that grows: SQLite says so before it runs.

A plan does not depend on how much a table holds, so a test with a few rows finds what a million would make slow.
"""

import re
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

import lanjie_gateway
from lanjie_gateway.adapters.ledger.tables import METADATA

SMALL: Final = frozenset(
    (
        "alembic_version alert_head batch edition grant_act head limit_day proposal receipt record_tree retention seen "
        "staged_change staged_key watch_position year_file"
    ).split()
)
"""Tables with a row for each commit or act of a person at the most, or for each department, edition or year, and what
stands only while an import is under way."""
ALLOWED: Final = {
    "backup._tables": "a backup is of everything",
    "complaints.find": "a list that a person reads",
    "deliveries._pairs": "goes from one entry to the next",
    "deliveries.live_counts": "says so; for a list that a person reads",
    "duties.read": "a list that a person reads",
    "ending.<dictcomp>": "before a person has retention carried out",
    "ending.end_rights": "some at a time, when a person has retention carried out",
    "ending.held_back": "before a person has retention carried out",
    "feed.listed_digests": "a start reads the whole view",
    "inquiries.read": "a page, from the first record on",
    "limits.answered_since": "a page, from the newest record back",
    "restore._load": "a restore is of everything",
    "rotation.<genexpr>": "a new key touches everything",
    "tree.newest_checkpoint": "ends at the first that fits, from the newest back",
}
"""Functions that may, and why."""
_PARTIAL: Final = {
    str(index.name)
    for table in METADATA.tables.values()
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
}
_GATEWAY: Final = str(Path(lanjie_gateway.__file__).parent)
_GROW: Final = frozenset(METADATA.tables) - SMALL
_LIST: Final = re.compile(r"\?(, \?)+")
_SCAN: Final = re.compile(r"SCAN (\w+?)(?:_\d+)?(?: USING (?:COVERING )?INDEX (\w+))?$")


class Plans:
    """A listener for SQLAlchemy's ``before_cursor_execute`` that refuses such a statement."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._shapes: set[str] = set()

    def __call__(self, _: Any, cursor: Any, statement: str, parameters: Any, __: Any, many: Any) -> None:
        """Look at a statement the first time it comes, however many values its lists have."""
        if statement in self._seen:
            return
        self._seen.add(statement)
        shape = _LIST.sub("?", statement)
        if shape in self._shapes:
            return
        self._shapes.add(shape)
        caller = _caller(sys._getframe(1))
        if isinstance(cursor, sqlite3.Cursor) and caller and shape.startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
            found = filter(None, (_SCAN.match(step[3]) for step in plan.fetchall()))
            # Whoever goes through an index of what is new, or open, wants all of that.
            whole = {each[1] for each in found if each[2] not in _PARTIAL} & _GROW
            if whole and caller not in ALLOWED:
                raise AssertionError(f"{caller} goes through the whole of {whole}: {' '.join(shape.split())}")


def _caller(frame: FrameType | None) -> str:
    """Return module and function of the gateway that runs a statement; empty where a test does."""
    while frame is not None and "sqlalchemy" in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None or not frame.f_code.co_filename.startswith(_GATEWAY):
        return ""
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"
