"""A histogram of microseconds with buckets of about 3 %, for latencies that whole milliseconds would hide."""

import math
from collections import Counter
from collections.abc import Mapping

SHARES = (0.5, 0.9, 0.99, 0.999)


class Histogram:
    """Counts durations.

    Args:
        counts: of another one, as `counts` has them.
    """

    _STEP = math.log(1.03)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts = Counter(counts or {})

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[round(math.log(max(seconds, 1e-9)) / self._STEP)] += 1

    def __len__(self) -> int:
        return self.counts.total()

    def percentile(self, share: float) -> float:
        """Return a percentile in microseconds; 0 for an empty histogram."""
        wanted, seen = share * len(self), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return math.exp(bucket * self._STEP) * 1e6
        return 0.0

    def __str__(self) -> str:
        return ", ".join(f"p{share * 100:g} {self.percentile(share):.0f} us" for share in SHARES)
