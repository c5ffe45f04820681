"""No personal data outside its place (Art. 40, 43): canaries go through every path, then everything is searched.

Invented numbers and names go in by files, by hand, by questions and by mistakes, well formed and not. Then all that the
gateway has written, said, logged, stored, shipped and backed up is searched for them: in clear, in other writings and
in other encodings. The only places where one may be found are these:

* what an SDK or a command was given, in the caller's own process and files: bidders' files and their answers;
* the address, which only the authority's own words hold: in the listing (ledger, index, backup), in `list show` and
  `list waiting`, and in an answer with an effect, which owes the subject its reason (Art. 31).
"""

import base64
import json
import logging
import os
import re
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import lanjie
from lanjie_gateway.adapters.ledger.tables import METADATA
from tests.support.gateway import COLUMNS, csv_file
from tests.support.serve import Result, run, serving
from tests.support.shapes import jsonl_bytes, workbook
from tests.support.subjects import citizen, uscc
from tests.support.valkey import Valkey, valkey

DATA = Path(__file__).parents[1] / "data"
LISTED, PASSING, BIDDER = uscc(7_310_731), uscc(7_310_732), uscc(7_310_733)
PERSON, RELATED, MALFORMED = citizen(731, "19731103"), citizen(733, "19671229"), citizen(735, "19590507")
HAND, WAITING, ASKED = citizen(737, "19880229"), citizen(739, "19910731"), citizen(741, "19610117")
PASSPORT = "passport:UTO:QZ7310739"
NAME, RELATED_NAME, BAD_NAME, HAND_NAME, OTHER_NAME, TYPED_NAME = (
    "欧阳墨澜",
    "司徒砚秋",
    "尉迟青岚",
    "慕容知白",
    "皇甫霁月",
    "端木未晞",
)
NAMES = (NAME, RELATED_NAME, BAD_NAME, HAND_NAME, OTHER_NAME, TYPED_NAME)
NUMBERS = tuple(
    each.rpartition(":")[2]
    for each in (LISTED, PASSING, BIDDER, PERSON, RELATED, MALFORMED, HAND, WAITING, ASKED, PASSPORT)
)
ADDRESS = "虚构市墨水湖路七百三十一号"
MATTER = ("--matter", "procurement.supplier")
SUPPLIER = (*MATTER, "--purpose", "资格审查")


def number_of(identifier: str) -> str:
    return identifier.rpartition(":")[2]


def written(number: str) -> set[str]:
    """Return the ways of writing a number that would give it away."""
    forms = {number, number.lower(), "".join(chr(ord(each) + 0xFEE0) for each in number)}
    if len(number) == 18:
        forms |= {
            number[:17],
            f"{number[:6]}-{number[6:14]}-{number[14:]}",
            f"{number[:6]} {number[6:14]} {number[14:]}",
        }
        forms |= {f"{number[:4]}-{number[4:8]}-{number[8:]}", number[8:17]} if not number.isdigit() else set()
        if number[6:8] == "19":
            forms.add(number[:6] + number[8:17])
    return forms


def encoded(text: str) -> set[bytes]:
    """Return the bytes a text may hide in."""
    found = {text.encode("utf-8"), text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode("gb18030")}
    found |= {json.dumps(text)[1:-1].encode(), ascii(text)[1:-1].encode(), repr(text.encode())[2:-1].encode()}
    for each in (text.encode("utf-8"), text.encode("gb18030")):
        found |= {each.hex().encode(), each.hex().upper().encode()}
        for offset in range(3):
            # Three bytes make four characters: what stands at the edges depends on the neighbours.
            whole = base64.b64encode(b"\0" * offset + each + b"\0" * 3)
            found.add(whole[offset and offset + 1 : (offset + len(each)) * 4 // 3])
    return found


def needles(texts: Iterable[str]) -> dict[bytes, str]:
    return {each: text for text in texts for form in written(text) for each in encoded(form) if len(each) >= 6}


PERSONAL = needles((*NUMBERS, *NAMES))
PLACE = needles((ADDRESS,))


def hits(found: Mapping[str, bytes], wanted: Mapping[bytes, str]) -> list[str]:
    """Return where something is that should not be there; the words are invented, so they may be shown."""
    return sorted(
        {f"{where}: {what}" for where, content in found.items() for each, what in wanted.items() if each in content}
    )


def files_below(*folders: Path) -> dict[str, bytes]:
    found = {}
    for folder in folders:
        for each in sorted(folder.rglob("*")):
            found[f"name of {each.name}"] = str(each).encode()
            if each.is_file():
                found[str(each.relative_to(folder.parent))] = each.read_bytes()
    return found


def redis_content(server: Valkey) -> dict[str, bytes]:
    """Return every key of every type with all it holds."""
    read = {b"string": ("GET",), b"hash": ("HGETALL",), b"list": ("LRANGE", 0, -1), b"set": ("SMEMBERS",)}
    read |= {b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"stream": ("XRANGE", "-", "+")}
    found = {}
    for key in server.run("KEYS", "*"):
        command, *more = read[server.run("TYPE", key)]
        content = server.run(command, key, *more)
        found[f"redis {key!r}"] = key + b"\n" + _flat(content)
    assert len(found) > 1
    return found


def _flat(value: Any) -> bytes:
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple | set):
        return b"\n".join(map(_flat, value))
    return value if isinstance(value, bytes) else str(value).encode()


def rows_of(url: str) -> dict[str, bytes]:
    """Return all rows of all tables."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = {
            f"table {table.name}": _flat([tuple(row) for row in connection.execute(sa.select(table))])
            for table in METADATA.sorted_tables
        }
    engine.dispose()
    assert found["table listing"]
    assert found["table inquiry"]
    return found


def processes_of(state: Path) -> dict[str, bytes]:
    """Return command lines and environments of the gateway's processes."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[entry.name] = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            lines[entry.name] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
    ours = {pid for pid, line in lines.items() if b"serve" in line and str(state).encode() in line}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    assert len(ours) >= 3
    for pid in ours - {pid for pid in ours if b"serve" in lines[pid]}:
        (core,) = re.findall(r"Max core file size +(\S+)", Path(f"/proc/{pid}/limits").read_text())
        assert core == "0", lines[pid]
    return {f"process {pid}": lines[pid] + Path(f"/proc/{pid}/environ").read_bytes() for pid in ours}


class Paths:
    """Drives every path of one gateway and keeps what was said."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.folder = folder
        self.said: dict[str, bytes] = {}
        self.told_of_the_address: set[str] = set()
        self.unexpected: list[tuple[Any, ...]] = []

    def run(self, *arguments: str, stdin: str = "", code: int | None = 0, address: bool = False) -> Result:
        """Run a command, plain and as JSON where that repeats nothing."""
        done = run(*arguments, gateway_file=self.file, stdin=stdin)
        if code not in {None, done.code}:
            self.unexpected.append((*arguments, done))
        self._keep(" ".join(arguments[:3]), done, address=address)
        return done

    def _keep(self, name: str, done: Result, *, address: bool) -> None:
        where = f"command {len(self.said)}: {name}"
        # What was typed is the caller's; what is searched is what comes back.
        self.said[where] = f"{done.out}\n{done.err}".encode()
        if address:
            self.told_of_the_address.add(where)

    def write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def imports(self) -> None:
        people = f"法定代表人:{RELATED_NAME}:{RELATED};股东:{BAD_NAME}"
        reason = f"{NAME}（{number_of(PERSON)}）与{RELATED_NAME}拖欠，住{ADDRESS}"
        good = [
            row(LISTED, "COURT", reason=f"法定代表人{RELATED_NAME}，住{ADDRESS}", related_persons=people),
            row(PERSON, "COURT", name=NAME, reason=reason, related_persons=f"配偶:{RELATED_NAME}"),
            row(
                PASSPORT, "WAGE", name=OTHER_NAME, reason=f"护照{number_of(PASSPORT)}", source_record_id=number_of(HAND)
            ),
        ]
        bad = [
            row(f"citizen:{number_of(MALFORMED)[:-2]}", "WAGE", name=BAD_NAME),
            row(f"uscc:{number_of(MALFORMED)}", "WAGE", name=BAD_NAME),
            row(f"citizen:{number_of(MALFORMED)}", "WAGE", name=BAD_NAME, decision_no=number_of(MALFORMED)),
            row(f"citizen:{BAD_NAME}", BAD_NAME, name=number_of(MALFORMED)),
            row(MALFORMED, "WAGE", name=BAD_NAME, listed_on=number_of(MALFORMED)),
            row(MALFORMED, "WAGE", name=BAD_NAME, region=BAD_NAME, op=number_of(MALFORMED)),
        ]
        filler = [row(uscc(number), "WAGE") for number in range(40)]
        self.run("list", "import", self.write("good.csv", csv_file([*bad[:1], *good, *filler])), code=3)
        book_rows = [[each.get(column, "") for column in COLUMNS] for each in (*bad, *good)]
        book = workbook([COLUMNS, *book_rows])
        dry = self.write("dry.jsonl", jsonl_bytes(bad + good))
        self.run("list", "import", dry, "--dry-run", code=3)
        self.run("list", "import", self.write("strict.xlsx", book), "--strict", "--json", code=2)
        header = f"id_kind,id_number,{number_of(MALFORMED)},{BAD_NAME}\nuscc,1,2,3\n".encode()
        self.run("list", "import", self.write("header.csv", header), code=2)
        self.run("list", "import", self.write(f"{number_of(MALFORMED)}.csv", csv_file(bad)), "--json", code=4)
        receipt = self.run("list", "waiting", "--json").json["imports"][0]["receipt_id"]
        self.run("list", "waiting", receipt)
        self.run("list", "decline", receipt, "--reason", f"{number_of(MALFORMED)} 有误")
        self.run("profile", "try", str(self.folder / "good.csv"), "--profile", "wage-arrears", code=None)

    def by_hand(self) -> None:
        texts = ("--set", f"reason={HAND_NAME}，住{ADDRESS}", "--set", "listed_on=2026-01-05")
        added = self.run(
            "list", "add", HAND, "--list-type", "WAGE", "--name", HAND_NAME, *texts, "--json", code=4, address=True
        )
        self.run("list", "waiting", added.json["receipt_id"], address=True)
        self.run("list", "confirm", added.json["receipt_id"], "--json")
        self.run("list", "add", "-", "--list-type", "WAGE", "--name", BAD_NAME, stdin=f"{MALFORMED}9\n", code=2)
        self.run("list", "add", WAITING, "--list-type", "WAGE", "--name", OTHER_NAME, code=4)
        found = self.run("list", "find", "-", "--json", stdin=f"{HAND}\n", address=True).json[0]["id"]
        said = f"{HAND_NAME}（{number_of(HAND)}）"
        why = (found, "--reason", f"{said}申请", "--document", f"文书 {number_of(HAND)}")
        self.run("list", "amend", *why, "--set", f"reason={said}，住{ADDRESS}", "--json", code=4, address=True)
        act = self.run("list", "waiting", "--json").json["acts"][0]["act_id"]
        self.run("list", "waiting", act, address=True)
        self.run("list", "confirm", act, address=True)
        self.run("list", "object", *why, address=True)
        self.run("list", "close-objection", *why, "--outcome", "unfounded", "--reply", f"{said}不成立", address=True)
        self.run("list", "apply-repair", *why, address=True)
        self.run("list", "refuse-repair", *why, address=True)
        self.run("list", "stay", *why, address=True)
        self.run("list", "lift-stay", *why, "--json", code=4, address=True)
        self.run(
            "list", "notice", *why, "--what", "changed", "--instrument-date", "2026-01-05", address=True, code=None
        )
        self.run("list", "remove", *why, address=True)
        self.run("list", "remove", *why, code=2)
        self.run("list", "show", found, address=True)
        self.run("list", "show", found, "--json", address=True)
        for identifier in (LISTED, PERSON, PASSPORT):
            self.run("list", "find", "-", stdin=f"{identifier}\n", address=True)

    def questions(self) -> None:
        self.run("check", "-", *SUPPLIER, "--json", stdin=f"{LISTED}\n", address=True)
        self.run("check", "-", *SUPPLIER, "--name", NAME, stdin=f"{PERSON}\n", address=True)
        self.run("check", "-", *SUPPLIER, "--name", OTHER_NAME, "--json", stdin=f"{PERSON}\n")
        number = number_of(ASKED)
        purpose = ("--purpose", f"核验{TYPED_NAME}{number}", "--case-no", f"案{number}")
        told = self.run("check", "-", *MATTER, *purpose, "--name", TYPED_NAME, "--json", stdin=f"{ASKED}\n")
        # The caller's own process keeps nothing: what it typed does not come back either.
        self.run("explain", told.json["decision_id"], "--purpose", f"答复 {number}")
        for wrong in (
            f"citizen:{number}9",
            f"uscc:{number}",
            f"org_code:{number}",
            f"kind:{number}",
            number,
            TYPED_NAME,
        ):
            self.run("check", wrong, *SUPPLIER, code=0 if wrong.startswith("uscc:") else 2)
        self.run("check", "-", "--matter", number, "--purpose", "x", stdin=f"{ASKED}\n", code=2)
        self.run("check", "-", *SUPPLIER, "--handling-region", number, stdin=f"{ASKED}\n", code=2)
        self.run("check", "-", *SUPPLIER, "--as-of", number, stdin=f"{ASKED}\n", code=2)
        self.run("check", ASKED, TYPED_NAME, *SUPPLIER, code=2)
        self.run(ASKED, code=2)
        self.run(TYPED_NAME, code=2)
        self.run("list", "find", f"{ASKED}9", code=2)
        self.run("list", "show", number, code=2)
        self.run("list", "remove", number, "--reason", TYPED_NAME, "--document", "d", code=2)
        self.run("list", "remove", "x", "--reason", "r", "--document", "d", "--date", number, code=2)
        self.run("list", "import", f"{number}.csv", code=2)
        self.run("list", "import", "x.csv", "--mode", TYPED_NAME, code=2)
        self.run("explain", number, "--purpose", "p", code=2)
        self.run("list", "confirm", number, code=2)
        self.run("calendar", "due", number, "--from", TYPED_NAME, code=2)
        bidders = f"标识,名称\n{LISTED},\n{BIDDER},\n{PERSON},{NAME}\n{ASKED}9,{TYPED_NAME}\n"
        self.run("check-file", self.write("bidders.csv", bidders.encode()), "-o", str(self.folder / "a.csv"), *SUPPLIER)

    def operator(self) -> None:
        for command in (
            ("duties",),
            ("duties", "--json"),
            ("status",),
            ("status", "--json"),
            ("catalogue", "show"),
            ("catalogue", "show", "test-national", "--json"),
            ("calendar", "show"),
            ("rotate-view-key",),
            ("backup", "-o", str(self.folder / "backup" / "b.tar"), "--json"),
        ):
            self.run(*command)
        address = json.loads(self.file.read_text())["metrics"]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}/metrics") as answer:
            self.said["metrics"] = answer.read()

    def counter(self, state_dir: Path) -> None:
        """Ask through the SDK: local passes, hits, persons, mistakes."""
        asked: dict[str, Any] = {
            "matter": "procurement.supplier",
            "purpose": f"核验 {number_of(ASKED)}",
            "case_no": "1",
        }
        with lanjie.Client.from_file(self.file, state_dir=state_dir) as client:
            client.wait_ready(timeout=20)
            local = client.check(PASSING, **asked)
            assert local.source is lanjie.Source.LOCAL
            answers = [local, client.check(ASKED, name=TYPED_NAME, **asked), client.check(LISTED, **asked)]
            many = client.check_many([PASSING, BIDDER, PERSON, f"{ASKED}9"], names=["", "", NAME, ""], **asked)
            self.said["repr of decisions"] = "\n".join(map(repr, [*answers, *many, client])).encode()
            for wrong in (f"{ASKED}9", number_of(ASKED), TYPED_NAME):
                with pytest.raises(lanjie.LanjieError) as caught:
                    client.check(wrong, **asked)
                self.said[f"error {len(self.said)}"] = repr(
                    (caught.value, str(caught.value), vars(caught.value))
                ).encode()


def row(identifier: str, list_type: str, **facts: str) -> dict[str, str]:
    kind, _, number = identifier.partition(":")
    return {
        "id_kind": kind,
        "id_number": number,
        "list_type": list_type,
        "decision_no": f"测试〔2026〕{len(facts)}{number[-1]}{number[1]}号",
        "listed_on": "2026-02-01",
        "source": "test",
        **facts,
    }


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("shared_url")) if request.param == "postgresql" else ""


def test_no_canary_is_found_anywhere(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, mine, sdk = tmp_path / "state", tmp_path / "mine", tmp_path / "sdk"
    (mine / "backup").mkdir(parents=True)
    caplog.set_level(logging.DEBUG)
    with valkey() as server:
        settings = {"metrics": "127.0.0.1:0", "log_level": "debug", "redis_url": server.url, "ledger_url": url}
        with serving(state, "--allow-examples", **settings) as file:
            paths = Paths(file, mine)
            paths.run("catalogue", "publish", str(DATA / "national.yaml"))
            paths.imports()
            paths.by_hand()
            paths.questions()
            paths.counter(sdk)
            paths.operator()
            assert paths.unexpected == [], "\n".join(map(str, paths.unexpected))
            found = processes_of(state)
            found |= {f"live {name}": content for name, content in files_below(state, sdk).items()}
            stored = redis_content(server)
        alone = run(
            "check",
            ASKED,
            *SUPPLIER,
            "--name",
            TYPED_NAME,
            "--address",
            "127.0.0.1:1",
            "--token-file",
            str(state / "tokens" / "inquirer.token"),
        )
        paths.said["gateway away"] = f"{alone.out}{alone.err}".encode()
    log = state.with_suffix(".log").read_bytes()
    assert b"rpc_completed" in log
    assert b"rpc_refused" in log
    stored |= files_below(state, mine / "backup") | (
        rows_of(url) if url else rows_of(f"sqlite:///{state}/ledger.sqlite3")
    )
    found |= {"log": log, "log of the SDK": caplog.text.encode(), **paths.said}
    leaks = hits(found | stored | files_below(sdk), PERSONAL)
    assert leaks == [], "\n".join(leaks)
    quiet = {name: content for name, content in found.items() if name not in paths.told_of_the_address}
    words = {name: content for name, content in quiet.items() if not name.startswith("live state/")}
    assert hits(words | files_below(sdk), PLACE) == []
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
