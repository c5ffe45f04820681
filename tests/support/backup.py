"""Backups for tests: made, restored, compared, and spoilt on purpose."""

import datetime
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lanjie_gateway.adapters import backup
from lanjie_gateway.adapters.ledger.tables import METADATA
from lanjie_gateway.domain.access import Role
from lanjie_gateway.services.backups import BackupService
from tests.support.gateway import RunningGateway, person

Parts = dict[str, bytes]
DATA = Path(__file__).parents[1] / "data"
AGENCY = person("agency", Role.AGENCY)
ASK: dict[str, Any] = {"matter": "procurement.supplier", "purpose": "test of a restore"}


def row(subject: str, list_type: str = "COURT") -> dict[str, str]:
    kind, _, number = subject.partition(":")
    return {
        "id_kind": kind,
        "id_number": number,
        "list_type": list_type,
        "decision_no": f"测试〔2026〕{number[-5:]}号",
        "authority": "测试机关",
        "reason": "测试事由",
        "basis": "测试依据",
        "listed_on": "2026-02-01",
        "removal_conditions": "履行义务后申请移出",
        "remedies": "可申请行政复议",
        "source": "test",
    }


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def backups(gateway: RunningGateway) -> BackupService:
    return BackupService(gateway.inner.control.ledger, gateway.state, url_of(gateway.state), "test", now)


def url_of(state: Path) -> str:
    return f"sqlite:///{state}/ledger.sqlite3"


def tables(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a ledger nobody has open, by table."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
                for table in METADATA.sorted_tables
            }
    finally:
        engine.dispose()


def without_epoch(rows: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a restore leaves as it was: all but the epoch, and the checkpoint that begins it."""
    place = list(METADATA.tables["head"].columns.keys()).index("epoch")
    kept = [row for row in rows["checkpoint"] if " restored" not in row[2]]
    return {**rows, "head": [(*row[:place], *row[place + 1 :]) for row in rows["head"]], "checkpoint": kept}


def write(state: Path, target: Path, url: str = "") -> tuple[int, bytes]:
    """Write a backup of a ledger nobody writes, in this process."""
    copy = "" if url else str(state / "ledger.sqlite3")
    order = backup.Order(state=str(state), target=str(target), url=url, copy=copy, version="test")
    return backup.write(order, lambda: None, lambda *_: None)


def parts(path: Path) -> Parts:
    """The parts of a backup by name, in order."""
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def rewrite(path: Path, change: Callable[[Parts, dict[str, Any]], None], *, digests: bool = True) -> None:
    """Change parts and manifest of a backup; with `digests` the manifest then fits the parts again."""
    found = parts(path)
    manifest = json.loads(found.pop(backup.MANIFEST))
    change(found, manifest)
    if digests:
        manifest["parts"] = [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in found.items()
        ]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in {**found, backup.MANIFEST: json.dumps(manifest).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
