"""The chain of a spool as the SDK makes it and the gateway judges it: whole through any cuts, broken by any change."""

import dataclasses
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from lanjie._inquiries import Uploader
from lanjie._spool import Basis, Spool
from lanjie.v1 import audit_pb2 as pb
from lanjie_gateway.domain.spool_chain import UNCHAINED, Block, ChainFault, beginning, judge

SPOOL = "ab" * 16


def chained(before, messages):
    for message in messages:
        before = hashlib.sha256(before + message).digest()
    return before


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=12), st.data())
def test_any_cut_goes_on_and_any_change_shows(messages, data):
    passes = list(enumerate(messages, 1))
    held = data.draw(st.integers(0, len(messages) - 1))
    start = data.draw(st.integers(0, held))
    known = chained(beginning(SPOOL), messages[:held])
    block = Block(
        number=1,
        before=chained(beginning(SPOOL), messages[:start]),
        after=chained(beginning(SPOOL), messages),
    )
    kept = known if held else None
    assert judge(SPOOL, held, kept, block, passes[start:]) == (block.after, None)
    changed = data.draw(st.integers(start, len(messages) - 1))
    other = [*passes[:changed], (changed + 1, messages[changed] + b"x"), *passes[changed + 1 :]]
    assert judge(SPOOL, held, kept, block, other[start:])[1] is ChainFault.CHANGED
    forged = dataclasses.replace(block, before=bytes(32), after=chained(bytes(32), messages[start:]))
    assert judge(SPOOL, held, kept, forged, passes[start:])[1] is ChainFault.CUT
    assert judge(SPOOL, held, known, UNCHAINED, passes[start:])[1] is ChainFault.UNKNOWN
    assert judge(SPOOL, held, None, UNCHAINED, passes[start:]) == (None, None)
    assert judge(SPOOL, held, kept, dataclasses.replace(block, before=b""), passes)[1] is ChainFault.UNKNOWN


class Gateway:
    """Keeps what a gateway keeps of one spool."""

    def __init__(self):
        self.held, self.chain, self.taken, self.faults = 0, None, [], []

    def upload(self, request):
        block = Block(number=request.block, before=request.chain_before, after=request.chain_after)
        passes = [(each.sequence, each.SerializeToString(deterministic=True)) for each in request.passes]
        if passes[-1][0] > self.held:
            self.chain, fault = judge(request.sdk_id, self.held, self.chain, block, passes)
            self.faults.append(fault)
            self.taken += [number for number, _ in passes if number > self.held]
            self.held = passes[-1][0]
        return pb.UploadLocalPassesResponse(acknowledged_sequence=self.held)


def test_a_spool_keeps_its_chain_over_segments_and_a_takeover(tmp_path):
    lineage, basis, gateway = "0" * 32, Basis(1, 1, 1, 0), Gateway()
    spool = Spool.create(tmp_path, lineage, segment_bytes=8_192)
    uploader = Uploader(gateway.upload)
    for turn in range(6):
        digests = (number.to_bytes(8, "big") for number in range(turn * 100, turn * 100 + 100))
        spool.append_many(turn, b"".join(digests), basis, b"")
        if turn == 3:
            assert uploader.drain(spool, 9)
    spool.abandon()
    assert uploader.take_over(tmp_path, lineage) == 1
    assert gateway.taken == list(range(1, 601))
    assert set(gateway.faults) == {None}
    assert len(gateway.faults) > 1
    assert not list((tmp_path / lineage / "spool").iterdir()), "nothing is left of a spool that is uploaded"
