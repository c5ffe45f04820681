"""Unix sockets beside the listeners (Art. 43): tokens count there, and only who may open the file comes in."""

import json
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.adapters.state_lock import StateInUseError, socket_directory
from lanjie_gateway.settings import Settings
from tests.integration.test_answers import DATA, NOW, row
from tests.support.gateway import running
from tests.support.subjects import uscc

ASK: dict[str, Any] = {"matter": "procurement.supplier", "purpose": "test of sockets"}


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory with a short name: a socket's path has few bytes."""
    with tempfile.TemporaryDirectory(prefix="lanjie-") as name:
        yield Path(name) / "s"


def test_a_counter_asks_and_syncs_over_a_socket_with_its_token(sockets: Path, tmp_path: Path) -> None:
    for start in range(2):
        with running(tmp_path / "state", NOW, sockets=sockets) as gateway:
            if start == 0:
                gateway.publish(DATA / "national.yaml")
                gateway.import_rows([row(uscc(1), "COURT")])
            told = json.loads(gateway.file.read_text())
            assert told["sockets"]["screening"] == f"unix:{sockets.resolve()}/listen.sock"
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            for each in ("listen", "feed", "admin"):
                mode = (sockets / f"{each}.sock").stat().st_mode
                assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
            token = Path(told["tokens"]["inquirer"]).read_text().strip()
            options: dict[str, Any] = {"trust": told["trusted_keys"], "state_dir": tmp_path / "sdk", "timeout": 20.0}
            with lanjie.Client(told["sockets"]["screening"], token=token, **options) as client:
                client.wait_ready(timeout=60)
                assert client.check(uscc(2), **ASK).source is lanjie.Source.LOCAL
                assert client.check(uscc(1), **ASK).outcome is lanjie.Outcome.INTERCEPT
                feed = client._handle.running()._driver.feed_address
                assert feed == told["sockets"]["feed"]
            with (
                lanjie.Client(told["sockets"]["screening"], token="guessed", local=False, timeout=20.0) as stranger,
                pytest.raises(lanjie.LanjieError, match="credentials"),
            ):
                stranger.check(uscc(1), **ASK)


@pytest.mark.parametrize(
    ("sockets", "workers", "rule"), [("/tmp/s", 2, "sockets-workers"), ("/" + "s" * 100, 1, "socket-path")]
)
def test_what_no_socket_can_be_is_refused_by_rule(sockets: str, workers: int, rule: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rule):
        Settings(state=tmp_path, sockets=Path(sockets), workers=workers).check_listeners()


def test_the_private_sockets_lie_where_nobody_else_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name under /tmp can be guessed: who makes it first must not read along."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = socket_directory(tmp_path / "state")
    assert socket_directory(tmp_path / "state") == made
    made.chmod(0o750)
    with pytest.raises(StateInUseError, match="0700"):
        socket_directory(tmp_path / "state")
    made.rmdir()
    (tmp_path / "own").mkdir(mode=0o700)
    made.symlink_to(tmp_path / "own")
    with pytest.raises(StateInUseError, match="0700"):
        socket_directory(tmp_path / "state")
