"""The end of retention (Art. 41): from when a listing is shown to nobody, when it is erased, and what is left of it.

1. After the last day, at 00:00 in Shanghai, nobody finds or reads it: by the clock, without a job.
2. One whole day later it may be erased, for another host's clock may be behind.
3. What is left is a tombstone: it says nothing about anybody, and is never in force. The ledger keeps beside it the
   keyed hash of the record's key, so that a late file never lists it anew.
"""

import datetime
from typing import Final

from lanjie_gateway.domain.packed import PackedListing
from lanjie_matcher.listings import Listing

_DAY: Final = datetime.timedelta(days=1)
_NO_DAY: Final = datetime.date(1970, 1, 1)
REASON: Final = "retention ended"
DOCUMENT: Final = "Social Credit Regulations of Jiangsu, Art. 41"


def over(listing: Listing, today: datetime.date) -> bool:
    """Whether the last day of retention is past (1)."""
    return listing.retention_until is not None and today > listing.retention_until


def erasable(listing: Listing, today: datetime.date) -> bool:
    """Whether it has been over for a whole day (2)."""
    return over(listing, today - _DAY)


def tombstone(listing: Listing) -> PackedListing:
    """Return what is left of a listing (3)."""
    left = Listing(
        id=listing.id,
        list_type=listing.list_type,
        subject_kind=listing.subject_kind,
        recorded_on=_NO_DAY,
        annulled=True,
    )
    return PackedListing(left, (), None)


def erased(packed: PackedListing) -> bool:
    """Whether it is a tombstone: every listing names its subject."""
    return not packed.identities
