"""Arguments that several commands take: identifiers, instants."""

import datetime
import sys

from lanjie_gateway.cli.gateway_file import CommandError
from lanjie_matcher.civil_time import SHANGHAI


def identifier_text(text: str) -> str:
    """Return the identifier argument; `-` reads a line of standard input, out of sight of process lists."""
    return sys.stdin.readline().strip() if text == "-" else text


def parse_instant(text: str) -> datetime.datetime:
    """Return an instant from ISO 8601; one that states no zone is in Asia/Shanghai.

    Raises:
        CommandError: it is none, or a day without a time of day.
    """
    try:
        at = datetime.datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=SHANGHAI)
        # At the ends of the calendar a zone may lead out of it.
        at.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        at = None
    if at is None or ":" not in text:
        raise CommandError("an instant is written as 2026-03-02T09:30:00+08:00; Asia/Shanghai when it states no zone")
    return at
