"""A histogram of microseconds with buckets of about 3 %, for latencies that whole milliseconds would hide."""

import math
from collections import Counter


class Histogram:
    """Counts durations."""

    _STEP = math.log(1.03)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[round(math.log(max(seconds, 1e-9)) / self._STEP)] += 1

    def __len__(self) -> int:
        return sum(self._counts.values())

    def percentile(self, share: float) -> float:
        """Return a percentile in microseconds; 0 for an empty histogram."""
        wanted, seen = share * len(self), 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return math.exp(bucket * self._STEP) * 1e6
        return 0.0
