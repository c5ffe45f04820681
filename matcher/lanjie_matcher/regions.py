"""Regions, GB/T 2260: six digits, province / city / county by pairs."""

import re
from collections.abc import Mapping
from typing import Final

NATION: Final = "000000"
"""Covers every region."""

REGION: Final = re.compile(r"[0-9]{6}")

NO_OVERRIDES: Final[Mapping[str, str]] = {}
"""Regions that count as part of another than their digits say: region -> region. Data, handed in by the caller."""


def covers(region: str, place: str, overrides: Mapping[str, str] = NO_OVERRIDES) -> bool:
    """Whether a rule of `region` acts in `place` (Art. 45: a municipal list acts only in its city)."""
    if region == NATION:
        return True
    prefix = region[:2] if region.endswith("0000") else region[:4] if region.endswith("00") else region
    return place.startswith(prefix) or overrides.get(place, "").startswith(prefix)
