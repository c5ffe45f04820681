"""Every path by which personal data may enter a gateway: files, hands, questions, mistakes, and what is told."""

import datetime
import functools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import typer.main

import lanjie
from lanjie.v1 import sync_pb2, sync_pb2_grpc, watch_pb2, watch_pb2_grpc
from lanjie_gateway.cli.app import app
from lanjie_matcher.civil_time import SHANGHAI
from tests.support.canaries import (
    ADDRESS,
    ASKED,
    BAD_NAME,
    BIDDER,
    HAND,
    HAND_NAME,
    LISTED,
    MALFORMED,
    NAME,
    OTHER_NAME,
    PASSING,
    PASSPORT,
    PERSON,
    RELATED,
    RELATED_NAME,
    TYPED_NAME,
    WAITING,
    number_of,
)
from tests.support.gateway import COLUMNS, csv_file
from tests.support.grants import file as grant_file
from tests.support.serve import Result, run
from tests.support.shapes import jsonl_bytes, workbook
from tests.support.subjects import uscc

MATTER = ("--matter", "procurement.supplier")
SUPPLIER = (*MATTER, "--purpose", "资格审查")
YEAR = Path(__file__).parents[2] / "gateway" / "lanjie_gateway" / "years" / "2026.yaml"
TODAY: Final = datetime.datetime.now(SHANGHAI).date()
REFUSED: Final = 2
EXCUSED: Final = {
    "serve": "it is the gateway; what its processes leave and say is searched",
    "demo": "runs a gateway of its own with invented data, by the commands that are driven here",
}
"""Commands that are not driven, and why."""


@functools.cache
def commands() -> Mapping[str, Any]:
    """Return every command there is, by its words: ``list import``."""

    def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", None)
        if below is None:
            yield " ".join(words), command
        for name, each in (below or {}).items():
            yield from leaves(each, (*words, name))

    return dict(leaves(typer.main.get_command(app), ()))


def _is_file(parameter: Any) -> bool:
    return parameter.type_descriptor.annotation is Path


class Paths:
    """Drives every path of one gateway and keeps what was said."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.folder = folder
        self.made = folder / "made"
        self.made.mkdir(parents=True)
        self.said: dict[str, bytes] = {}
        self.told_of_the_address: set[str] = set()
        self.unexpected: list[tuple[Any, ...]] = []
        self.driven: set[str] = set()

    def run(self, *arguments: str, stdin: str = "", code: int | None = 0, address: bool = False) -> Result:
        """Run a command, plain and as JSON where that repeats nothing."""
        done = run(*arguments, gateway_file=self.file, stdin=stdin)
        if code not in {None, done.code}:
            self.unexpected.append((*arguments, done))
        if done.code != REFUSED:
            self.driven |= {name for name in ("".join(arguments[:1]), " ".join(arguments[:2])) if name in commands()}
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
        filler = [row(uscc(number), "WAGE", publicity_until="2049-01-01") for number in range(40)]
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
        self.run("profile", "try", str(self.folder / "good.csv"), "--profile", "wage-arrears", code=None, address=True)
        self.run("profile", "try", str(self.folder / "good.csv"), "--json", code=3, address=True)

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
        self.run("list", "notice", *why, "--what", "altered", "--instrument-date", "2026-01-05", address=True)
        removed = self.run("list", "remove", *why, "--json", address=True).json["revision"]
        self.run("list", "remove", *why, code=2)
        contest = ("--contest", "--reason", f"{said}有异议")
        self.run("list", "review", found, "--revision", str(removed), *contest, address=True)
        self.run("list", "reinstate", *why, "--json", code=4, address=True)
        because = ("--reason", f"{number_of(HAND)} 申请", "--document", f"文书 {number_of(HAND)}")
        for number, end in enumerate(("repair", "revoke", "annul")):
            listing = self.run("list", "find", uscc(number), "--json").json[0]["id"]
            self.run("list", end, listing, *because)
            self.run("list", "withdraw-publicity", listing, *because, code=None)
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
        asked = (*MATTER, *purpose, "--role", number, "--name", TYPED_NAME)
        told = self.run("check", "-", *asked, "--json", stdin=f"{ASKED}\n")
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

    def streams(self) -> None:
        """Call what commands and clients use when they cannot do otherwise."""
        told = json.loads(self.file.read_text())
        bearer = (("authorization", f"Bearer {Path(told['tokens']['inquirer']).read_text().strip()}"),)
        state = sync_pb2.ClientState(sdk_id="ef" * 16)
        with grpc.insecure_channel(told["feed"]) as channel:
            pulled = sync_pb2_grpc.SyncServiceStub(channel).Pull(sync_pb2.PullRequest(state=state), metadata=bearer)
            self.said["pulled"] = b"".join(each.SerializeToString() for each in pulled)
            alerts = watch_pb2_grpc.WatchServiceStub(channel).StreamAlerts(
                watch_pb2.StreamAlertsRequest(), metadata=bearer, timeout=20
            )
            # Heartbeats have none; alerts are made in the ledger's spare time.
            self.said["alert"] = repr(next(page for page in alerts if page.alerts)).encode()
            alerts.cancel()

    def grants(self) -> None:
        number = number_of(ASKED)
        said = ("--reason", f"核验 {number}")
        days = {"valid_from": TODAY.isoformat(), "valid_until": TODAY.isoformat()}
        file = self.write("grant.toml", grant_file("housing", **days))
        waits = self.run("grant", "set", file, *said, "--json", code=4).json["act"]["act_id"]
        self.run("grant", "waiting")
        self.run("grant", "confirm", waits, "--json")
        named = {"number": f"文 {number}", "date": "2026-01-01"}
        for numbered in ({"document": named}, {"name": f"单位{number}"}, {"implementer_kinds": [number]}):
            self.run("grant", "set", self.write("bad.toml", grant_file("housing", **days, **numbered)), *said, code=2)
        other = self.write("other.toml", grant_file("transport", **days))
        waits = self.run("grant", "set", other, *said, "--json", code=4).json["act"]["act_id"]
        self.run("grant", "decline", waits, "--reason", f"{number} 有误")
        for command in ("show", "history"):
            self.run("grant", command, "housing")
            self.run("grant", command, "housing", "--json")
        self.run("grant", "list", "--json")
        self.run("grant", "end", "housing", *said, "--document", f"文 {number}")
        self.run("grant", "set", self.write("bad.toml", f"[grant]\n{number} = '{BAD_NAME}'\n".encode()), *said, code=2)
        bad = grant_file("housing", matters=[number, BAD_NAME], regions=[number], unit=BAD_NAME)
        self.run("grant", "set", self.write("bad.toml", bad), *said, code=2)

    def rights(self) -> None:
        number, today = number_of(ASKED), TODAY.isoformat()
        asked = (*MATTER, "--purpose", f"核验 {number}")
        document = ("--document", self.write("signed.pdf", b"signed"), "--document-number", f"授 {number}")
        term = ("--document-date", today, "--valid-until", today)
        made = self.run("authorisation", "register", "-", *asked, *document, *term, "--json", stdin=f"{ASKED}\n")
        allowed = made.json["authorisation_id"]
        self.run("check", "-", *asked, "--authorisation", allowed, "--request-id", number, stdin=f"{ASKED}\n", code=2)
        self.run("check", "-", *asked, "--authorisation", allowed, "--json", stdin=f"{ASKED}\n")
        self.run("authorisation", "show", allowed)
        self.run("authorisation", "withdraw", allowed, "--reason", f"{number} 撤回", "--json")
        proof = ("--proof", f"id-document:D {number[:4]}")
        for subject, name in ((PERSON, "person"), (LISTED, "company"), (ASKED, "asked"), (PASSPORT, "passport")):
            page = str(self.made / f"{name}.html")
            self.run("subject", "report", "-", *proof, "--html", page, stdin=f"{subject}\n")
            self.told_of_the_address.add(f"made/{name}.html")
            self.run("subject", "report", "-", *proof, "--json", stdin=f"{subject}\n", address=True)
        self.run("subject", "report", "-", "--proof", f"id-document:{number}", stdin=f"{ASKED}\n", code=2)
        case = ("--purpose", f"核实 {number}", "--case-no", f"案 {number}")
        for subject in (PERSON, LISTED):
            self.run("subject", "listings", "-", *case, stdin=f"{subject}\n", address=True)
            self.run("subject", "listings", "-", *case, "--json", stdin=f"{subject}\n", address=True)
            agency = ("--token-file", json.loads(self.file.read_text())["tokens"]["agency"])
            self.run("subject", "listings", "-", *case, *agency, stdin=f"{subject}\n", address=True)
        listing = self.run("list", "find", "-", "--json", stdin=f"{PERSON}\n", address=True).json[0]["id"]
        about, text = ("--about", f"listing:{listing}"), f"{number_of(PERSON)} 不服"
        taken = self.run("complaint", "add", "-", *about, "--text", text, "--json", stdin=f"{PERSON}\n")
        self.run("complaint", "list", *about)
        reply = ("--outcome", "founded", "--reply", f"{number_of(PERSON)} 已纠正", "--accountability", f"约谈 {number}")
        self.run("complaint", "close", taken.json["complaint_id"], *reply, "--json")
        self.run("list", "show", listing, "--json", address=True)
        self.run("complaint", "list", "--closed", "--json")

    def afterwards(self) -> None:
        """Tell what was done, take receipts, watch, count."""
        number = number_of(ASKED)
        why = (*MATTER, "--purpose", f"核验 {number}", "--case-no", f"案 {number}")
        until = ("--until", (TODAY + datetime.timedelta(days=30)).isoformat())
        watched = self.run("watch", "add", LISTED, *why, *until, "--json").json["watch"]["watch_id"]
        self.run("watch", "list", "--ended")
        receipt = str(self.made / "receipt.json")
        hit = self.run("check", "-", *why, "--receipt", receipt, "--json", stdin=f"{LISTED}\n", address=True).json
        listed = self.run("check", "-", *why, "--name", NAME, "--json", stdin=f"{PERSON}\n", address=True).json
        self.told_of_the_address.add("made/receipt.json")
        self.run("receipt", "verify", receipt, "--identifier", LISTED, address=True)
        self.run("receipt", "verify", receipt, "--identifier", PASSING, "--json", code=1, address=True)
        self.run("receipt", "show", receipt, "-o", str(self.made / "slip.html"))
        self.told_of_the_address.add("made/slip.html")
        by = ("--officer", "0417")
        told = ("--reason", "other", "--text", "另案处理", *by)
        self.run("report", hit["decision_id"], "--reason", "other", "--text", f"{number} 另案处理", *by, code=None)
        self.run("report", hit["decision_id"], *told)
        self.run("report", listed["decision_id"], "--applied", number, "--officer", number, code=2)
        self.run("report", listed["decision_id"], *told, "--json")
        by_card = ("--officer", number, "--reason", "identity", "--correct")
        self.run("report", hit["decision_id"], *by_card, code=2)
        self.run("feedback", "--json")
        self.run("feedback", "--department", number, code=None)
        self.run("case", "close", f"案 {number}", *MATTER)
        # Before it ends: who ends a watch is not told what it had to tell.
        self.streams()
        self.run("watch", "end", watched, "--json")
        self.run("alerts", "--ack", "--json")
        self.run("limits", "show", "--json")
        self.run("limits", "lift", "local", "--reason", f"{number} 考试", "--document", f"文 {number}")
        self.run("limits", "show", "local")
        self.run("statistics", "--by", "department,matter", "-o", str(self.made / "counts.csv"))
        self.run("statistics", "--by", "month,list_type", "--json")

    def audit(self) -> None:
        purpose = ("--purpose", f"审计 {number_of(ASKED)}")
        self.run("audit", "verify", "--json")
        self.run("audit", "witness", "-o", str(self.made / "witness.txt"))
        for subject in ("", LISTED, PERSON, ASKED, PASSPORT):
            self.run(
                "audit", "search", *("-" for _ in filter(None, [subject])), *purpose, "--json", stdin=f"{subject}\n"
            )
        self.run("audit", "search", number_of(ASKED), *purpose, code=2)
        self.run("audit", "search", *purpose, "--person", TYPED_NAME, code=2)
        self.run("audit", "search", *purpose, "--decision", number_of(ASKED), "--matter", number_of(ASKED))
        self.run("audit", "export", "-o", str(self.made / "records.jsonl"), *purpose)
        export = ("--export", str(self.made / "records.jsonl"))
        key = next(iter(json.loads(self.file.read_text())["trusted_keys"].values()))
        self.run("audit", "verify", *export, "--key", key)
        self.run("audit", "archive", "-o", str(self.made / "archive.jsonl"), "--until", "2099-01-01", *purpose)
        self.run("audit", "erase", "--dry-run")
        self.run("audit", "erase", "--json")

    def files(self) -> None:
        """Use the commands that work on files alone, with files that are not what they should be."""
        number = number_of(MALFORMED)
        bad = f"catalogue: {{id: '{number}', edition: {BAD_NAME}}}\n{number}: {BAD_NAME}\n".encode()
        file, key = self.write("bad.yaml", bad), str(self.folder / "manager.key")
        self.run("catalogue", "publish", file, code=2)
        self.run("calendar", "publish", file, code=2)
        self.run("calendar", "publish", str(YEAR), "--dry-run", "--json")
        public = self.run("catalogue", "make-key", key).out.split()
        self.run("catalogue", "sign", file, "--signing-key", key)
        owner = next(each for each in public if each.startswith("ed25519:"))
        self.run("catalogue", "verify", file, "--signature", f"{file}.sig", "--public-key", owner)
        self.run("receipt", "verify", file, code=1)
        self.run("audit", "verify", "--export", file, "--key", "00" * 32, code=1)
        self.run("profile", "list")
        self.run("profile", "show", "wage-arrears")
        self.run("calendar", "due", "objection-reply", "--from", "2026-02-02")

    def mistakes(self) -> None:
        """Give every command a number in each place that it must have, then in each that it may have, then a name."""
        for path, command in commands().items():
            if path in EXCUSED:
                continue
            given = []
            for each in command.params:
                if each.required:
                    given += [each.opts[0]] if each.param_type_name == "option" else []
                    given.append(str(self.folder / "nothing") if _is_file(each) else number_of(ASKED))
            if given:
                self.run(*path.split(), *given, stdin=f"{TYPED_NAME}\n", code=None)
            asked = [word for each in command.params if each.required for word in self._sound(path, each)]
            for each in command.params:
                if each.param_type_name == "option" and not (each.required or each.is_flag or _is_file(each)):
                    for said in (number_of(ASKED), f"x {PERSON}") if each.opts[-1] != "--address" else ():
                        words = (*path.split(), *asked, each.opts[-1], said)
                        self.run(*words, stdin=f"{ASKED}\n", code=None, address=path == "profile try")
            # What is no option and no file is a code or an id: a name in its place is not given back.
            if any(each.param_type_name == "argument" and not _is_file(each) for each in command.params):
                self.run(*path.split(), TYPED_NAME, code=None)

    def _sound(self, path: str, parameter: Any) -> list[str]:
        """Return what a command takes in a place that it must have."""
        known = {"IDENT": "-", "DATE": TODAY.isoformat(), "--matter": SUPPLIER[1], "--list-type": "WAGE"}
        known |= {"--about": "department:market", "--proof": "id-document:D", "--outcome": "unfounded"}
        name = parameter.opts[0]
        said = known.get(name) or known.get(parameter.metavar or "", "x")
        if _is_file(parameter):
            # Answers to a file of bidders hold the file.
            written = "written" if path == "check-file" else "made/written"
            said = str(self.folder / ("good.csv" if parameter.param_type_name == "argument" else written))
        return [name, said] if parameter.param_type_name == "option" else [said]

    def leave(self, state: Path, url: str) -> None:
        """Use what works without a gateway, once it has stopped."""
        for name in ("inquirer", "authority", "agency"):
            away = ("--address", "127.0.0.1:1", "--token-file", str(state / "tokens" / f"{name}.token"))
            self.run("check", ASKED, *SUPPLIER, "--name", TYPED_NAME, *away, code=None)
        if url.startswith("sqlite"):
            self.run("audit", "verify", "--state", str(state), "--json")
        restored = str(self.folder / "restored")
        self.run("restore", str(self.folder / "backup" / "b.tar"), "--state", restored)
        self.run("migrate", "--state", restored)

    def drive(self, sdk: Path) -> None:
        """Take every path of a gateway that runs.

        Args:
            sdk: state directory of the client that asks.
        """
        self.imports()
        self.by_hand()
        self.questions()
        self.counter(sdk)
        self.grants()
        self.rights()
        self.afterwards()
        self.files()
        self.mistakes()
        self.audit()
        self.operator()

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
            local = client.check(PASSING, **asked, role=number_of(ASKED))
            assert local.source is lanjie.Source.LOCAL
            answers = [local, client.check(ASKED, name=TYPED_NAME, **asked), client.check(LISTED, **asked)]
            many = client.check_many([PASSING, BIDDER, PERSON, f"{ASKED}9"], names=["", "", NAME, ""], **asked)
            self.said["repr of decisions"] = "\n".join(map(repr, [*answers, *many, client])).encode()
            until = TODAY + datetime.timedelta(days=30)
            watch = client.watch(PASSING, until=until, **asked)
            self.said["repr of watches"] = repr((watch, client.watches(), list(client.alerts()))).encode()
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
