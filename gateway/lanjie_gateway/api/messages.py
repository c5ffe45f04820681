"""Instants and days as messages hold them, for every servicer."""

import datetime
from typing import Any, Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.signing import Signature
from lanjie_matcher.civil_time import SHANGHAI

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def timestamp(at: datetime.datetime) -> Timestamp:
    """Return an aware instant as a message."""
    since = at - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def instant_in(message: Any, field: str) -> datetime.datetime | None:
    """Return the aware instant of a field, `None` where it is not set.

    Raises:
        Refused: ARGUMENT_INVALID, rule ``range``: no day in Shanghai has it.
    """
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    try:
        at = stamp.ToDatetime(datetime.UTC)
        at.astimezone(SHANGHAI)
    except (ValueError, OverflowError):
        raise invalid_argument(field, "range", "there is no such instant") from None
    return at


def date_text(day: datetime.date | None) -> str:
    """Return a day as YYYY-MM-DD, empty where it is not known."""
    return "" if day is None else day.isoformat()


class Signable(Protocol):
    """A request that carries a signature over its file."""

    signature: bytes
    signature_algorithm: str
    key_id: str


def signature_of(request: Signable) -> Signature | None:
    """Return the signature that came with a file; `None` for none."""
    if not request.signature:
        return None
    return Signature(algorithm=request.signature_algorithm, key_id=request.key_id, value=request.signature)
