"""Days and instants. Every date of the law is a day in Asia/Shanghai, an end date lasts to 24:00 (Civil Code 201-203).

The zone is a fixed +08:00: there has been no summer time since 1991, and minimal machines carry no zone table.
"""

import calendar
import datetime
from typing import Final

SHANGHAI: Final = datetime.timezone(datetime.timedelta(hours=8), "Asia/Shanghai")
_DAY: Final = datetime.timedelta(days=1)


def day_of(at: datetime.datetime) -> datetime.date:
    """Return the day in Asia/Shanghai of an aware instant.

    Raises:
        ValueError: the instant states no zone; the machine's own would decide in silence.
    """
    if at.tzinfo is None:
        raise ValueError("an instant states its zone")
    return at.astimezone(SHANGHAI).date()


def start_of(day: datetime.date) -> datetime.datetime:
    """Return 00:00 Asia/Shanghai of a day."""
    return datetime.datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)


def last_day_after_months(start: datetime.date, months: int) -> datetime.date:
    """Return the last day of a term in months: the day of the same number, else the month's last (Civil Code 202)."""
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    return datetime.date(year, month, min(start.day, calendar.monthrange(year, month)[1]))
