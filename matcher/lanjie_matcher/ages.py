"""What a set is good for, by its age: how long ago it was last confirmed to be the newest (Art. 48).

=========  ==========  =====================================================================================
age        is          absence of a company from the set
=========  ==========  =====================================================================================
to 45 s    `FRESH`     is a pass
to 15 min  `SOFT`      is a flagged pass; matters of high consequence ask the gateway
to 24 h    `STALE`     asks the gateway; where that cannot be reached, a flagged pass if the matter allows it
after      `EXPIRED`   asks the gateway, and nothing else
48 h                   key and set are erased
=========  ==========  =====================================================================================

A hit is never an answer, at any age: it asks the gateway.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Age(enum.Enum):
    """What a set is good for; see the module."""

    FRESH = "fresh"
    SOFT = "soft"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeBounds:
    """Ages in seconds at which a set is good for less; each at least the one before it."""

    fresh: float = 45.0
    soft: float = 15 * 60.0
    stale: float = 24 * 3_600.0
    purge: float = 48 * 3_600.0

    def of(self, age: float) -> Age:
        """Return what a set is good for at an age in seconds."""
        if age <= self.fresh:
            return Age.FRESH
        if age <= self.soft:
            return Age.SOFT
        return Age.STALE if age <= self.stale else Age.EXPIRED

    def capped(self) -> "AgeBounds":
        """Return the bounds a client goes by: those of a manifest, and never more than the defaults."""
        fresh = min(self.fresh, DEFAULT_BOUNDS.fresh)
        soft = max(fresh, min(self.soft, DEFAULT_BOUNDS.soft))
        stale = max(soft, min(self.stale, DEFAULT_BOUNDS.stale))
        return AgeBounds(fresh=fresh, soft=soft, stale=stale, purge=max(stale, min(self.purge, DEFAULT_BOUNDS.purge)))


DEFAULT_BOUNDS: Final = AgeBounds()
BEATS: Final = 3
"""Heartbeats within the time in which a set is fresh: two may be lost."""
