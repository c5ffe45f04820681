"""Every answer under churn is what an independent model says at the revision that the answer names.

A few hundred checks here, a million under ``./run check --long``.
"""

from pathlib import Path

import pytest

from lanjie_gateway.bootstrap.shared import wall_clock
from loadtests.churn import LEAST, measured
from loadtests.population import Population
from tests.support.gateway import RunningGateway

pytestmark = pytest.mark.drill

CATALOGUE = Path(__file__).parents[2] / "examples" / "catalogues" / "national-example.yaml"


@pytest.mark.parametrize("checks", [300, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_no_answer_differs_from_the_model_at_its_revision(tmp_path: Path, checks: int) -> None:
    # What is checked is real time, too: a set ages while the list changes.
    gateway = RunningGateway(tmp_path / "state", wall_clock, redis_url="none").start()  # type: ignore[arg-type]
    try:
        gateway.publish(CATALOGUE)
        rows = {row["name"]: row for row in measured(gateway.file, Population(5, 0), checks)}
    finally:
        gateway.stop()
    print({name: row["value"] for name, row in rows.items()})
    assert [name for name, row in rows.items() if row["met"] is False] == []
    assert rows["churn: changes"]["value"] >= LEAST
    assert rows["churn: undetermined"]["value"] < checks
