"""What a batch does to many texts and digests at once, with NumPy (``lanjie[fast]``): the very same answers."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from lanjie_matcher.filters import START, STEP, LocalFilter, ScreenedFilter
from lanjie_matcher.identifiers import ORG_CHECKS, PLAIN, PLAIN_LENGTH, USCC_ALPHABET, USCC_CHECKS

_FEW: Final = 16
_NONE: Final = 255
_PLAIN: Final = np.frombuffer(PLAIN.encode(), np.uint8)
_USCC_VALUES: Final = np.full(256, _NONE, np.uint8)
_USCC_VALUES[np.frombuffer(USCC_ALPHABET.encode(), np.uint8)] = np.arange(31, dtype=np.uint8)
_ORG_VALUES: Final = np.zeros(256, np.uint8)
_ORG_VALUES[48:58], _ORG_VALUES[65:91] = np.arange(10), np.arange(10, 36)
_USCC_WEIGHTS: Final = np.array([pow(3, place, 31) for place in range(17)], np.float32)
_ORG_WEIGHTS: Final = np.array([pow(2, 7 - place, 11) for place in range(8)], np.float32)
_USCC_CHECKS: Final = np.frombuffer(USCC_CHECKS.encode(), np.uint8)
_ORG_CHECKS: Final = np.frombuffer(ORG_CHECKS.encode(), np.uint8)


def sound_organisations(texts: Sequence[str]) -> list[bytes]:
    """See `lanjie_matcher.identifiers.sound_organisations`."""
    joined = "".join(texts).encode("ascii", "replace")
    rows = np.frombuffer(joined, np.uint8).reshape(-1, PLAIN_LENGTH)
    values = _USCC_VALUES[rows[:, 5:22]]
    # Sums of whole numbers far below 2^24: floats hold them exactly, and are multiplied fastest.
    total = (values.astype(np.float32) @ _USCC_WEIGHTS).astype(np.int32)
    organisations = rows[:, 13:22].copy()
    other = (_ORG_VALUES[organisations[:, :8]].astype(np.float32) @ _ORG_WEIGHTS).astype(np.int32)
    sound = (
        (rows[:, :5] == _PLAIN).all(axis=1)
        & (values.max(axis=1) != _NONE)
        & (_USCC_CHECKS[total % 31] == rows[:, 22])
        & (_ORG_CHECKS[other % 11] == rows[:, 21])
    )
    organisations[~sound] = 0
    # As text of nine bytes, of which NumPy strips zeros behind.
    found: list[bytes] = organisations.view("S9").ravel().tolist()
    return found


def hits(probed: LocalFilter, digests: bytes, shift: int) -> list[int]:
    """Return the places of those digests, eight bytes each, whose fingerprints may be in the set."""
    fingerprints = np.frombuffer(digests, ">u8").astype(np.uint64) >> np.uint64(shift)
    if not isinstance(probed, ScreenedFilter):
        return probed.hits(fingerprints.tolist())
    bloom = probed.bloom
    bits, width = np.frombuffer(memoryview(bloom.bits), np.uint8), np.uint64(bloom.width)
    places = np.flatnonzero(_are_set(bits, fingerprints % width))
    position, step = fingerprints[places] * np.uint64(START), fingerprints[places] * np.uint64(STEP) | np.uint64(1)
    for offset in bloom.offsets:
        if len(places) <= _FEW:
            break
        position += step
        kept = np.flatnonzero(_are_set(bits, (position >> np.uint64(20)) % width + np.uint64(offset)))
        places, position, step = places[kept], position[kept], step[kept]
    return [place for place in places.tolist() if int(fingerprints[place]) in probed]


def _are_set(bits: Any, positions: Any) -> Any:
    return bits[positions >> np.uint64(3)] >> (positions & np.uint64(7)).astype(np.uint8) & np.uint8(1)
