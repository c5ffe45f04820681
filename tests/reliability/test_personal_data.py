"""No personal data outside its place (Art. 40, 43): canaries go through every path, then everything is searched.

Invented numbers and names go in by files, by hand, by questions and by mistakes, well formed and not. Then all that the
gateway has written, said, logged, stored, shipped and backed up is searched for them: in clear, in other writings and
in other encodings. The only places where one may be found are these:

* what an SDK or a command was given, in the caller's own process and files: bidders' files and their answers;
* the address, which only the authority's own words hold: in the listing (ledger, index, backup), in `list show` and
  `list waiting`, in an answer with an effect, which owes the subject its reason (Art. 31), in receipts of such answers,
  and in the subject's own report (Art. 63).

The ordinary run drives a gateway in this process; the long one `serve`, with the command lines, environments and logs
of its processes.
"""

import base64
import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanjie_gateway.settings import configure_logs
from tests.support.canaries import (
    ADDRESS,
    LISTED,
    NAME,
    NAMES,
    NUMBERS,
    PASSPORT,
    PERSON,
    PERSONAL,
    PLACE,
    files_below,
    hits,
    needles,
    number_of,
    processes_of,
    redis_content,
    rows_of,
    written,
)
from tests.support.canary_paths import EXCUSED, Paths, commands
from tests.support.gateway import running_now
from tests.support.methods import methods
from tests.support.serve import serving
from tests.support.valkey import valkey

DATA = Path(__file__).parents[1] / "data"


@contextlib.contextmanager
def in_this_process(state: Path, log: Path, **settings: str) -> Iterator[Path]:
    """Run a gateway whose log goes to a file; yields the gateway file."""
    with log.open("w", encoding="utf-8") as stream, contextlib.ExitStack() as stack:
        stack.callback(configure_logs, "error")
        with contextlib.redirect_stderr(stream):
            gateway = stack.enter_context(running_now(state, log_level="debug", **settings))
        yield gateway.file


@pytest.fixture(
    params=[
        pytest.param("here", marks=pytest.mark.drill),
        pytest.param("sqlite", marks=pytest.mark.long),
        pytest.param("postgresql", marks=pytest.mark.long),
    ]
)
def ledger(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("shared_url")) if request.param == "postgresql" else str(request.param)


def test_no_canary_is_found_anywhere(ledger: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, mine, sdk, log = (tmp_path / name for name in ("state", "mine", "sdk", "state.log"))
    (mine / "backup").mkdir(parents=True)
    caplog.set_level(logging.DEBUG)
    url = ledger if ledger.startswith("postgresql") else f"sqlite:///{state}/ledger.sqlite3"
    with valkey() as server:
        settings = {"metrics": "127.0.0.1:0", "redis_url": server.url, "ledger_url": url}
        if ledger == "here":
            serves = in_this_process(state, log, **settings)
        else:
            serves = serving(state, "--allow-examples", log_level="debug", **settings)
        with serves as file:
            paths = Paths(file, mine)
            paths.run("catalogue", "publish", str(DATA / "national.yaml"))
            paths.drive(sdk)
            found = {} if ledger == "here" else processes_of(state)
            found |= {f"live {name}": content for name, content in files_below(state, sdk).items()}
            stored = redis_content(server)
        paths.leave(state, url)
    assert paths.unexpected == [], "\n".join(map(str, paths.unexpected))
    assert commands().keys() - paths.driven - EXCUSED.keys() == set(), sorted(
        commands().keys() - paths.driven - EXCUSED.keys()
    )
    told = log.read_bytes()
    assert b"rpc_refused" in told
    there = {f"{service}/{method}" for service, method in methods()}
    assert there - set(re.findall(r'"method": "/([\w./]+)", "ms"', told.decode())) == set(), "methods nobody called"
    stored |= files_below(state, mine / "backup", mine / "restored") | rows_of(url)
    found |= {"log": told, "log of the SDK": caplog.text.encode(), **paths.said}
    found |= {name: content for name, content in files_below(paths.made).items() if not name.startswith("name of")}
    leaks = hits(found | stored | files_below(sdk), PERSONAL)
    assert leaks == [], "\n".join(leaks)
    quiet = {name: content for name, content in found.items() if name not in paths.told_of_the_address}
    words = {name: content for name, content in quiet.items() if not name.startswith("live state/")}
    misplaced = hits(words | files_below(sdk), PLACE)
    assert misplaced == [], "\n".join(misplaced)
    assert hits(stored, PLACE)
    shown = {name: content for name, content in found.items() if name in paths.told_of_the_address}
    assert hits(shown, PLACE)


@pytest.mark.parametrize("text", [number_of(PERSON), number_of(PASSPORT), number_of(LISTED), NAME, ADDRESS])
def test_the_search_finds_what_is_hidden(text: str) -> None:
    wanted = needles((text,))
    for form in written(text):
        raw = form.encode()
        for content in (
            raw,
            form.encode("utf-16"),
            form.encode("gb18030"),
            raw.hex().encode(),
            json.dumps(form).encode(),
        ):
            assert hits({"x": b"..." + content + b"..."}, wanted)
        for offset in range(3):
            assert hits({"x": base64.b64encode(b"x" * offset + raw + b"yz")}, wanted)


def test_two_canaries_are_never_each_others(tmp_path: Path) -> None:
    assert len(set(PERSONAL.values())) == len(NUMBERS) + len(NAMES)
    assert os.fsencode(tmp_path) not in PERSONAL
