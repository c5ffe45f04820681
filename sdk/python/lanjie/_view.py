"""What the threads that check look at: a verified set, what the department may ask of it, and how long it is good."""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import DecodeError

from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import Age, AgeBounds
from lanjie_matcher.filters import LocalFilter
from lanjie_matcher.shards import RefusedError
from lanjie_matcher.views import ED25519, Manifest, ViewState, verify_signatures

_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_ALWAYS: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class MatterRule:
    """What the local path must know of a matter from one day to another, inclusive: days since 1970-01-01."""

    first: int
    last: int
    case_no_required: bool
    high_consequence: bool
    stale_pass: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What goes with a set: its key, and what may be asked of it.

    Attributes:
        raw: as it came; the head names its digest.
        key: view key.
        catalogue_revision: revision of the newest catalogue it was made from.
        matters: what holds when, by code; an absent one was never defined.
        covers_companies: absence of a company from the set is an answer.
    """

    raw: bytes
    key: bytes
    catalogue_revision: int
    matters: Mapping[str, tuple[MatterRule, ...]]
    covers_companies: bool

    @classmethod
    def of(cls, raw: bytes) -> "Scope":
        """Read a scope.

        Raises:
            RefusedError: ``encoding``.
        """
        try:
            message = pb.ViewScope.FromString(raw)
        except DecodeError:
            raise RefusedError("encoding", "the scope cannot be read") from None
        matters = {each.code: tuple(map(_rule, each.rules)) for each in message.matters}
        return cls(raw, message.key, message.catalogue_revision, matters, "company" in message.covers)

    def rule(self, matter: str, day: int) -> MatterRule | None:
        """Return what holds for a matter on a day in Shanghai; `None` where no catalogue in force knows it.

        Raises:
            KeyError: no catalogue ever defined it.
        """
        for rule in self.matters[matter]:
            if rule.first <= day <= rule.last:
                return rule
        return None

    def require_named_by(self, head: Manifest) -> None:
        """Refuse a head that wants another scope.

        Raises:
            RefusedError: ``scope``.
        """
        if hashlib.sha256(self.raw).digest() != head.scope_digest:
            raise RefusedError("scope", "the head wants another scope")


@dataclass(frozen=True, slots=True)
class LocalView:
    """A verified set, ready to be probed, and how long it may answer.

    Attributes:
        state: the set and its head.
        filter: what is probed.
        scope: what may be asked of it.
        bounds: how long it is good for what.
        contact: monotonic seconds at which the contact that last confirmed it began.
        applied: the same for the contact that brought the set.
        fresh_until: monotonic seconds up to which it is fresh.
    """

    state: ViewState
    filter: LocalFilter
    scope: Scope
    bounds: AgeBounds
    contact: float
    applied: float
    fresh_until: float

    @classmethod
    def of(
        cls, state: ViewState, probe: LocalFilter, scope: Scope, *, contact: float, applied: float | None = None
    ) -> "LocalView":
        """Return a view as of a contact."""
        bounds = state.manifest.bounds.capped()
        brought = contact if applied is None else applied
        return cls(state, probe, scope, bounds, contact, brought, contact + bounds.fresh)

    def confirmed(self, contact: float) -> "LocalView":
        """Return the same view as of a later contact."""
        return replace(self, contact=contact, fresh_until=contact + self.bounds.fresh)

    def age(self, monotonic: float) -> Age:
        """Return what the set is good for at an instant of the monotonic clock."""
        return self.bounds.of(monotonic - self.contact)


def read_head(head: pb.SignedManifest, trusted: Mapping[str, bytes]) -> Manifest:
    """Verify and then read a signed manifest.

    Raises:
        RefusedError: ``signature``, ``encoding`` or ``algorithm``.
    """
    algorithms = {pb.SIGNATURE_ALGORITHM_ED25519: ED25519}
    signatures = [(each.key_id, algorithms.get(each.algorithm, ""), each.value) for each in head.signatures]
    verify_signatures(head.manifest, signatures, trusted)
    try:
        message = pb.Manifest.FromString(head.manifest)
    except DecodeError:
        raise RefusedError("encoding", "the head cannot be read") from None
    if message.prf != pb.PRF_ALGORITHM_BLAKE2B_64 or message.digest != pb.DIGEST_ALGORITHM_SHA256:
        raise RefusedError("algorithm", "the set was made with algorithms that are not known here")
    bounds = message.bounds
    return Manifest(
        view=message.view,
        lineage=message.lineage,
        epoch=message.epoch,
        generation=message.generation,
        revision=message.revision,
        root=message.root,
        count=message.count,
        bits=message.bits,
        key_id=message.key_id,
        key_check=message.key_check,
        normalisation=message.normalisation,
        canaries_hit=tuple(message.canaries_hit),
        canaries_miss=tuple(message.canaries_miss),
        issued_at=message.issued_time.ToDatetime(datetime.UTC),
        expires_at=message.expires_time.ToDatetime(datetime.UTC),
        scope_digest=message.scope_digest,
        bounds=AgeBounds(
            fresh=bounds.fresh_seconds,
            soft=bounds.soft_seconds,
            stale=bounds.stale_seconds,
            purge=bounds.purge_seconds,
        ),
    )


def _rule(message: pb.MatterRules) -> MatterRule:
    return MatterRule(
        _day(message.days.start_date, -_ALWAYS),
        _day(message.days.end_date, _ALWAYS),
        message.case_no_required,
        message.high_consequence,
        message.stale_pass,
    )


def _day(text: str, otherwise: int) -> int:
    if not text:
        return otherwise
    try:
        return datetime.date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError:
        raise RefusedError("encoding", "a day of the scope is no date") from None
