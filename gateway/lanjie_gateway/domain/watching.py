"""What a gateway sends next to a client that pulls or watches. Pure; whoever drives it has clock and stream.

1. One update is on its way at a time. The next one starts from what the client says it has, on its disk.
2. A client is never sent a head older than what it has: a gateway that is behind lets it wait.
3. A delta goes to whoever has a set of this generation whose changes since are known and few; everybody else gets a
   snapshot, and so does a client that refused an update.
4. While a generation of the view key gives way to the next, clients of the old one are kept current until their
   snapshot's turn has come.
5. Snapshots on their way are counted; whoever comes when there are `MOST_SNAPSHOTS` waits and asks again.
"""

from dataclasses import dataclass
from typing import Final

from lanjie_gateway.domain.view import Changes, View

MOST_SNAPSHOTS: Final = 16
WAIT_SECONDS: Final = 1.0
BEHIND_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a client has; fields as in `ClientState` of sync.proto."""

    lineage: str = ""
    epoch: int = 0
    generation: int = 0
    revision: int = 0
    root: bytes = b""
    catalogue_revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A view as it may be offered: a generation of the key, with its set, in the epoch of the ledger."""

    lineage: str
    epoch: int
    generation: int
    view: View
    catalogue_revision: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The client's set is the newest."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Delta:
    """Changes to the client's set."""

    offer: Offer
    base_root: bytes
    changes: Changes


@dataclass(frozen=True, slots=True)
class Whole:
    """A snapshot; who sends it gives its place back with `Snapshots.done`."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after so many seconds."""

    seconds: float


Step = Heartbeat | Delta | Whole | Wait


class Snapshots:
    """Counts the snapshots on their way (5)."""

    def __init__(self, most: int = MOST_SNAPSHOTS) -> None:
        self._most = most
        self._under_way = 0

    def admit(self) -> bool:
        """Take a place; return whether there was one."""
        if self._under_way >= self._most:
            return False
        self._under_way += 1
        return True

    def done(self) -> None:
        """Give a place back."""
        self._under_way -= 1


def next_step(position: Position, offers: tuple[Offer, ...], snapshots: Snapshots) -> Step:
    """Return what leads a client from what it has to the newest.

    Args:
        position: what it has.
        offers: the newest generation first, then those that are giving way to it.
        snapshots: places for snapshots.
    """
    newest = offers[0]
    ahead = (position.epoch, position.revision) > (newest.epoch, newest.view.revision)
    if position.lineage == newest.lineage and ahead:
        return Wait(BEHIND_SECONDS)  # (2)
    step = None
    for offer in offers:
        if (position.lineage, position.epoch, position.generation) == (offer.lineage, offer.epoch, offer.generation):
            step = _follow(position, offer)
    if step is not None and step.offer is newest:
        return step
    if snapshots.admit():
        return Whole(newest)  # (3)
    return step or Wait(WAIT_SECONDS)  # (4), (5)


def _follow(position: Position, offer: Offer) -> Heartbeat | Delta | None:
    if not position.root:
        return None
    if position.root == offer.view.head()[0]:
        return Heartbeat(offer)
    changes = offer.view.changes_since(position.revision)
    return None if changes is None else Delta(offer, position.root, changes)
