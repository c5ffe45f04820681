"""kill -9 of an SDK that takes updates: what it finds on its disk is a set that was sent, and none older than it said.

Fifteen random moments here, a hundred and twenty under ``./run check --long``.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lanjie import _keeper
from tests.support.feed import LINEAGE, Publisher, clock

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
# Forks an SDK for every line: starting an interpreter takes longer than what is tested.
NURSERY = """
import os, sys
from pathlib import Path
from tests.reliability.test_sdk_kill import updates
for line in sys.stdin:
    start, seed = map(int, line.split())
    child = os.fork()
    if child == 0:
        print("pid", os.getpid(), flush=True)
        for revision, root in updates(Path(sys.argv[1]), start, seed):
            print(revision, root.hex(), flush=True)
    os.waitpid(child, 0)
    print("\\ndead", flush=True)
"""


def updates(state, start, seed):
    """Take snapshots and deltas without end; yield what is acknowledged, after it was taken.

    The set of a revision is the same in every process, so that it can be compared with what is found.
    """
    vars(_keeper)["FEW_CHANGES"] = 150
    publisher = published(start)
    keeper = publisher.keeper(state, use_bloom=True)
    assert keeper.leads
    draw = random.Random(seed)
    keeper.take(publisher.snapshot(), 1_000.0)
    yield start, publisher.root
    for revision in range(start + 1, start + 100_000):
        delta = publisher.commit(*changes_of(revision))
        whole = draw.random() < 0.1
        keeper.take(publisher.snapshot(2) if whole else [delta], 1_000.0)
        yield revision, publisher.root
        for _ in range(30):
            keeper.build_some()


def values_of(revision):
    """What a revision puts in: the same in every process."""
    draw = random.Random(str(revision))
    return [draw.getrandbits(40) for _ in range(9)]


def changes_of(revision):
    """What a revision puts in and takes out: what came in twenty revisions before."""
    return values_of(revision), values_of(revision - 20)


def published(revision):
    """The ledger as it is at a revision."""
    publisher = Publisher(clock(), 40)
    publisher.commit([value for each in range(revision - 19, revision + 1) for value in values_of(each)])
    publisher.fields["revision"] = revision
    return publisher


def acknowledged(nursery, start, seed, seconds):
    """Start an SDK, kill it so long after its first update, and return what it acknowledged: revisions and roots."""
    nursery.stdin.write(f"{start} {seed}\n")
    nursery.stdin.flush()
    pid = int(nursery.stdout.readline().split()[1])
    said = [nursery.stdout.readline()]
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    while (line := nursery.stdout.readline()) != "dead\n":
        said.append(line)
    # The last line may be torn, or empty.
    return {int(words[0]): words[1] for line in said if len(words := line.split()) == 2 and len(words[1]) == 64}


@pytest.fixture
def nursery(tmp_path):
    command = [sys.executable, "-c", NURSERY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as made:
        yield made
        made.kill()


@pytest.mark.parametrize("kills", [15, pytest.param(120, marks=pytest.mark.long)])
def test_a_killed_sdk_finds_the_set_it_acknowledged_or_a_later_one(tmp_path, nursery, kills):
    draw = random.Random(kills)
    ledger, newest = published(10), 10
    for kill in range(kills):
        told = acknowledged(nursery, newest, kill, draw.uniform(0.0, 0.08))
        assert min(told) == newest

        found = ledger.keeper(tmp_path, use_bloom=True)
        head = found.view.state.manifest
        ledger = published(head.revision)
        # Taken and not yet acknowledged, at the most.
        assert head.revision in (max(told), max(told) + 1)
        assert head.root == ledger.root
        assert told.get(head.revision, head.root.hex()) == head.root.hex()
        assert {value for shard in found.view.state.shards for value in shard} == ledger.values
        assert all(value in found.view.filter for value in ledger.values)
        found.close()
        newest = head.revision
    assert newest > 10 + kills
    # What killed processes left half written goes with the next write.
    keeper = ledger.keeper(tmp_path)
    keeper.take(ledger.snapshot(), 1_000.0)
    keeper.close()
    assert not list((tmp_path / LINEAGE).glob("*.new"))
