"""The writer of the shared copy of the exact index; `services.publisher` tells it what to write.

Every change of a shard is one atomic script on one key that first compares the shard's seal with the one this writer
knows: a shard that was emptied, rolled back, damaged or written by somebody else is thus noticed and made again whole,
and two writers at once cannot spoil each other's work. The head is written last, so the copy is at every instant what
its head says or more. All values are absolute: whatever was begun may be begun again.
"""

import asyncio
import dataclasses
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lanjie_gateway.adapters.ledger import BucketState
from lanjie_gateway.adapters.shared_codec import SEAL, SHARDS, UNKNOWN, Seal, sum_of, weight
from lanjie_gateway.adapters.shared_index import SharedIndex, by_shard, list_of

_SLICE: Final = 500
_WRITE: Final = """
local key, seal = KEYS[1], ''
local kind = redis.call('TYPE', key).ok
if kind == 'hash' then seal = redis.call('HGET', key, '@') or '' end
if seal ~= ARGV[1] then return 0 end
if ARGV[3] == 'whole' or kind ~= 'hash' then redis.call('UNLINK', key) end
local last = 4 + tonumber(ARGV[4])
for first = 5, last, 1000 do redis.call('HDEL', key, unpack(ARGV, first, math.min(first + 999, last))) end
for first = last + 1, #ARGV, 1000 do redis.call('HSET', key, unpack(ARGV, first, math.min(first + 999, #ARGV))) end
redis.call('HSET', key, '@', ARGV[2])
return 1
"""
"""ARGV: the seal that must be there, the new seal, ``whole`` or ``part``, number of fields to delete, they, pairs."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What the copy says of itself.

    Attributes:
        revision: up to which all of `sound` is complete; `None` without a believable head.
        sound: numbers of the shards whose seal fits the head. Their values are not looked at.
        entries: how many values these have.
    """

    revision: int | None
    sound: frozenset[int]
    entries: int


class SharedCopy:
    """One writer of the copy that `shared` reads. Every method raises `SharedIndexError` as `SharedIndex.load` does."""

    def __init__(self, shared: SharedIndex) -> None:
        self._shared = shared
        self._codec = shared.codec
        self._floor = 0
        self._head = b""
        # What this writer knows to stand in each shard: the raw seal, and what it says; `None` if it must be replaced.
        self._raw: list[bytes] = [b""] * SHARDS
        self._seals: list[Seal | None] = [None] * SHARDS

    @property
    def entries(self) -> int:
        """How many values the writer knows to stand in the copy."""
        return sum(seal.count for seal in self._seals if seal is not None)

    async def survey(self) -> Copy:
        """Take stock of what is there, by head and seals, and go on from it."""
        raw, seals = await self._seals_now()
        head = self._codec.open_head(raw)
        self._head = raw if head is not None else b""
        self._floor = head.revision if head is not None else 0
        for number, each in enumerate(seals):
            seal = self._codec.open_seal(number, each)
            fits = head is not None and seal is not None and head.covers(number, seal)
            self._raw[number], self._seals[number] = each, seal if fits else None
        sound = frozenset(number for number, seal in enumerate(self._seals) if seal is not None)
        return Copy(head.revision if head is not None else None, sound, self.entries)

    async def intact(self) -> bool:
        """Whether head and seals are still what this writer knows: nobody emptied, rolled back or wrote the copy."""
        raw, seals = await self._seals_now()
        return bool(self._head) and raw == self._head and seals == self._raw

    async def verify(self, number: int) -> bool:
        """Whether a shard is whole. One that is not must be replaced; one whose content is not known gets it."""
        reply, seal = await self._shared.whole(number), self._seals[number]
        if isinstance(reply, dict) and seal is not None and reply.pop(SEAL, None) == self._raw[number]:
            content = self._codec.content(reply)
            if seal.content != UNKNOWN:
                if seal.content == content:
                    return True
            elif content is not None and await self._fits(number, seal, reply):
                # The values may have changed since they were read. Then the content is not theirs, and nobody takes
                # them for whole.
                seal = dataclasses.replace(seal, content=content)
                raw = self._codec.seal(number, seal)
                command = _write(self._codec.shard_key(number), self._raw[number], raw)
                if (await self._shared.pipeline([command]))[0] == 1:
                    self._raw[number], self._seals[number] = raw, seal
                    return True
        self._seals[number] = None
        # As it stands there now, so that `replace` is allowed to.
        self._raw[number] = _bytes((await self._shared.pipeline([self._ask_seal(number)]))[0])
        return False

    async def _fits(self, number: int, seal: Seal, shard: dict[bytes, bytes]) -> bool:
        """Whether a shard is what its seal says, value by value, with pauses."""
        if len(shard) != seal.count:
            return False
        items, total = list(shard.items()), 0
        for start in range(0, len(items), _SLICE):
            digest = self._codec.digest(number, items[start : start + _SLICE])
            if digest is None:
                return False
            total += digest
            await asyncio.sleep(0)
        return sum_of(total) == seal.digest

    async def retract(self) -> None:
        """Withdraw the head: of a copy that says more than the ledger knows."""
        await self._shared.pipeline([("UNLINK", self._codec.head_key)])
        self._head, self._floor, self._seals = b"", 0, [None] * SHARDS

    async def replace(self, number: int, states: Sequence[BucketState], floor: int) -> bool:
        """Make a shard again whole. While it is being made it is not sound, and nobody believes it.

        Args:
            number: of the shard.
            states: all its buckets with listings.
            floor: the ledger's head, read before `states`.

        Returns:
            Whether it stands; not if somebody else wrote it meanwhile.
        """
        key = self._codec.shard_key(number)
        self._seals[number] = None
        # Until the last command its seal is none. Each is small, so neither Redis nor this loop stands still for a big
        # shard.
        stands, digest, raw, seal = self._raw[number], 0, b"", None
        whole: dict[bytes, bytes] = {}
        for start in range(0, max(1, len(states)), _SLICE):
            pairs: list[bytes] = []
            for state in states[start : start + _SLICE]:
                value = whole[state.bucket] = self._codec.value(state.bucket, state.revision, state.value)
                digest += weight(value)
                pairs += (state.bucket, value)
            if start + _SLICE >= len(states):
                seal = Seal(floor, len(states), sum_of(digest), self._codec.content(whole) or UNKNOWN)
                raw = self._codec.seal(number, seal)
            else:
                raw = b"building" + secrets.token_bytes(8)
            if (await self._shared.pipeline([_write(key, stands, raw, pairs, whole=start == 0)]))[0] != 1:
                self._raw[number] = _bytes((await self._shared.pipeline([self._ask_seal(number)]))[0])
                return False
            stands = raw
        self._raw[number], self._seals[number] = raw, seal
        return True

    async def apply(self, states: Iterable[BucketState]) -> set[int]:
        """Put buckets as they are now; one without listings goes.

        Returns:
            Numbers of the shards that are not what this writer left there; they must be replaced.
        """
        groups = by_shard(states, lambda state: state.bucket)
        lost = {number for number, _ in groups if self._seals[number] is None}
        groups = [group for group in groups if group[0] not in lost]
        keys = [self._codec.shard_key(number) for number, _ in groups]
        asked = [
            ("HMGET", key, SEAL, *(state.bucket for state in group))
            for key, (_, group) in zip(keys, groups, strict=True)
        ]
        commands, written = [], []
        for key, (number, group), reply in zip(keys, groups, await self._shared.pipeline(asked), strict=True):
            changed = self._change(number, group, list_of(reply, len(group) + 1))
            if changed is None:
                lost.add(number)
                continue
            seal, gone, pairs = changed
            raw = self._codec.seal(number, seal)
            commands.append(_write(key, self._raw[number], raw, pairs, gone))
            written.append((number, raw, seal))
            await asyncio.sleep(0)
        for (number, raw, seal), reply in zip(written, await self._shared.pipeline(commands), strict=True):
            if reply == 1:
                self._raw[number], self._seals[number] = raw, seal
            else:
                lost.add(number)
        for number, reply in zip(
            lost, await self._shared.pipeline([self._ask_seal(number) for number in lost]), strict=True
        ):
            self._raw[number], self._seals[number] = _bytes(reply), None
        return lost

    def _change(
        self, number: int, states: Sequence[BucketState], reply: list[Any]
    ) -> tuple[Seal, list[bytes], list[bytes]] | None:
        """Return new seal, fields to delete and pairs to put, `None` if the shard is not what it was."""
        seal = self._seals[number]
        if seal is None or reply[0] != self._raw[number]:
            return None
        count, digest = seal.count, seal.digest
        gone: list[bytes] = []
        pairs: list[bytes] = []
        for state, raw in zip(states, reply[1:], strict=True):
            if raw is not None:
                if self._codec.open_value(state.bucket, raw) is None:
                    return None
                count, digest = count - 1, digest - weight(raw)
            if state.value:
                value = self._codec.value(state.bucket, state.revision, state.value)
                count, digest = count + 1, digest + weight(value)
                pairs += (state.bucket, value)
            elif raw is not None:
                gone.append(state.bucket)
        # Without the content: it takes all values, and `verify` comes round to it.
        return Seal(self._floor, count, sum_of(digest)), gone, pairs

    async def finish(self, revision: int) -> bool:
        """Say that the copy is complete up to `revision`.

        Returns:
            Whether it was said; not while a shard is not sound.
        """
        if any(seal is None for seal in self._seals):
            return False
        raw = self._codec.head(revision, (seal.digest for seal in self._seals if seal is not None))
        await self._shared.pipeline([("SET", self._codec.head_key, raw)])
        self._head, self._floor = raw, revision
        return True

    def _ask_seal(self, number: int) -> tuple[Any, ...]:
        return ("HGET", self._codec.shard_key(number), SEAL)

    async def _seals_now(self) -> tuple[bytes, list[bytes]]:
        head = (await self._shared.pipeline([("GET", self._codec.head_key)]))[0]
        seals: list[bytes] = []
        for start in range(0, SHARDS, 64):
            part = await self._shared.pipeline([self._ask_seal(number) for number in range(start, start + 64)])
            seals += (_bytes(each) for each in part)
        return _bytes(head), seals


def _write(
    key: str,
    expected: bytes,
    seal: bytes,
    pairs: Sequence[bytes] = (),
    gone: Sequence[bytes] = (),
    *,
    whole: bool = False,
) -> tuple[Any, ...]:
    return ("EVAL", _WRITE, 1, key, expected, seal, "whole" if whole else "part", len(gone), *gone, *pairs)


def _bytes(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else b""
