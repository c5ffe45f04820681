"""The companies' view at the gateway: whatever came and went, what travels is the set, and an SDK accepts it."""

import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.adapters.keys import KeyRing
from lanjie_gateway.services.sync import BITS, View
from lanjie_matcher.views import SHARDS, accept_snapshot, decode_shard

KEYS = KeyRing(store=b"s" * 32, index=b"i" * 32, view=b"v" * 32, signing=b"g" * 32, token=b"t" * 32, epoch=1)
LINEAGE = "ab" * 16
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
Names = st.integers(0, 40).map(lambda number: f"org:{number:09d}")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(Names, st.booleans()), max_size=80))
def test_every_history_gives_the_set_a_fresh_view_gives(history: list[tuple[str, bool]]) -> None:
    view = View(KEYS, LINEAGE)
    listed: set[str] = set()
    for place, (name, on) in enumerate(history):
        view.put(view.key.digest64(name), listed=on)
        (listed.add if on else listed.discard)(name)
        if place % 7 == 0:
            view.head()
    fresh = View(KEYS, LINEAGE)
    for name in listed:
        fresh.put(fresh.key.digest64(name), listed=True)
    assert view.head() == fresh.head()

    manifest = view.manifest(NOW)
    shards = [view.shard(number) for number in range(SHARDS)]
    decoded = [decode_shard(each.number, each.count, each.planes, BITS) for each in shards]
    state = accept_snapshot(manifest, KEYS.view, decoded, None, NOW)
    for number in range(41):
        name = f"org:{number:09d}"
        assert (state.key.fingerprint(name) in state.values) == (name in listed)
