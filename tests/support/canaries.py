"""Invented numbers and names that are driven through a gateway, and the search for them in all that it left."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import METADATA
from tests.support.subjects import citizen, uscc
from tests.support.valkey import Valkey

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
                found[str(each.relative_to(folder.parent))] = each.read_bytes().strip(b"\0")
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
