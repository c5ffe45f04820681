"""Instants and days as messages hold them, for every servicer."""

import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(at: datetime.datetime) -> Timestamp:
    """Return an aware instant as a message."""
    stamp = Timestamp()
    stamp.FromDatetime(at.astimezone(datetime.UTC))
    return stamp


def date_text(day: datetime.date | None) -> str:
    """Return a day as YYYY-MM-DD, empty where it is not known."""
    return "" if day is None else day.isoformat()
