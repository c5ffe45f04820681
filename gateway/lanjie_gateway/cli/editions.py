"""Editions of catalogues, for people: where one stands in its life, and what it changes.

What changes is a table for each span of days before a publication, one paragraph after it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lanjie_matcher.subjects import ORGANISATION_KINDS, SubjectKind

_STYLES: Final = {"gained": "red", "lost": "green", "changed": "yellow"}
_SIGNS: Final = {"gained": "+", "lost": "−", "changed": "~"}


def publication_text(edition: Any) -> str:
    """Return the publication of an edition, and its filing (Art. 45)."""
    lines = [f"{edition.publication_number} {edition.publication_date}", edition.approver]
    if edition.filing_number:
        lines.append(f"filed: {edition.filing_number} {edition.filing_date}")
    return "\n".join(lines).strip()


def life_text(edition: Any) -> Text:
    """Return where an edition stands, its days, and what ends it."""
    style = {"in_force": "green", "not_yet_in_force": "yellow"}.get(edition.state, "dim")
    lines = [edition.state.replace("_", " ")]
    if edition.closing:
        lines.append("closes the catalogue")
    if edition.first_date:
        lines.append(f"{edition.first_date} – {edition.last_date or 'open'}")
    if edition.superseded_by:
        lines.append(f"then {edition.superseded_by}" if edition.first_date else f"{edition.superseded_by} instead")
    return Text("\n".join(lines), style=style)


def changes_view(changes: Any) -> RenderableType:
    """Return tables of everything that changes, span of days by span of days."""
    if not changes.periods:
        parts: list[RenderableType] = [Text("It changes nothing: no matter and no list type differs on any day.")]
    else:
        parts = [_period(period) for period in changes.periods]
        parts.append(Text(f"live listings of the list types concerned: {changes.listings:,} at the most are touched"))
    if changes.new_matters:
        parts.append(Text(f"never defined before, asking is an error until then: {', '.join(changes.new_matters)}"))
    if changes.left_out:
        parts.append(Text(f"{changes.left_out:,} more matters and list types are left out here", style="yellow"))
    return Group(*parts)


def changes_summary(changes: Any) -> str:
    """Return in one paragraph what changes."""
    if not changes.periods:
        return "It changes nothing: no matter and no list type differs on any day."
    counts: Counter[str] = Counter()
    matters: dict[str, set[str]] = {}
    for period in changes.periods:
        for matter in period.matters:
            for name in _kinds_of_change(matter):
                matters.setdefault(name, set()).add(matter.matter)
        counts["list types"] += len(period.list_types)
    told = [f"{words} {len(matters[name])}" for name, words in _WORDS.items() if name in matters]
    if counts["list types"]:
        told.append(f"list types that differ {counts['list types']}")
    text = f"From {changes.periods[0].first_date} on: {', '.join(told)}."
    text += f" At the most {changes.listings:,} live listings are touched."
    if changes.left_out:
        text += f" {changes.left_out:,} more matters and list types are not counted here."
    return text


_WORDS: Final = {
    "known": "matters that become known",
    "unknown": "matters that no catalogue knows any more (UNDETERMINED)",
    "gained": "matters that gain measures",
    "lost": "matters that lose measures",
    "changed": "matters with measures in another form",
    "otherwise": "matters otherwise defined, or with list types otherwise read",
    "grows": "matters whose scope grows",
}


def _kinds_of_change(matter: Any) -> Iterable[str]:
    if matter.known_after != matter.known_before:
        yield "known" if matter.known_after else "unknown"
    yield from {measure.change for measure in matter.measures}
    if matter.settings or matter.read_otherwise:
        yield "otherwise"
    if matter.grows:
        yield "grows"


def _period(period: Any) -> RenderableType:
    days = f"from {period.first_date}" + (f" to {period.last_date}" if period.last_date else "")
    parts: list[RenderableType] = []
    if period.matters:
        table = Table(box=box.SIMPLE_HEAD, title=Text(f"matters, {days}"), title_justify="left", expand=True)
        for heading, ratio, width in (("matter", 4, 20), ("measure", 5, 20), ("effect", 2, 8), ("how", 6, 20)):
            table.add_column(heading, ratio=ratio, overflow="fold", min_width=width)
        table.add_column("listings", ratio=2, overflow="fold", min_width=9)
        for matter in period.matters:
            _add_matter(table, matter)
        parts.append(table)
    if period.list_types:
        table = Table(box=box.SIMPLE_HEAD, title=Text(f"list types, {days}"), title_justify="left", expand=True)
        for heading, ratio in (("list type", 4), ("name", 5), ("what", 11)):
            table.add_column(heading, ratio=ratio, overflow="fold")
        for each in period.list_types:
            table.add_row(each.code, each.name, "\n".join((each.change, *_altered(each.fields))))
        parts.append(table)
    return Group(*parts)


def _add_matter(table: Table, matter: Any) -> None:
    """Add the matter itself on the first line, then a line for each measure."""
    facts = _altered(matter.settings)
    if matter.known_after != matter.known_before:
        facts.insert(0, "becomes known" if matter.known_after else "known no more: UNDETERMINED")
    if matter.read_otherwise:
        facts.append(f"list types read otherwise: {', '.join(matter.read_otherwise)}")
    facts += [f"scope grows: {each.list_type} ({_kinds(each.kinds)})" for each in matter.grows]
    listings = "\n".join(f"{each.list_type} {each.live:,}" for each in matter.listings)
    table.add_row(f"{matter.matter}\n{matter.name}", "", "", "\n".join(facts), listings)
    for each in matter.measures:
        effect = " → ".join(dict.fromkeys(word for word in (each.effect_before, each.effect_after) if word))
        how = "\n".join((" and ".join((each.change, *each.turns)), *_altered(each.fields)))
        style = _STYLES.get(each.change, "")
        table.add_row(
            "",
            Text(f"{_SIGNS.get(each.change, '?')} {each.code} {each.title}\n{each.catalogue}", style),
            effect,
            how,
            "",
        )


def _altered(fields: Iterable[Any]) -> list[str]:
    return [f"{each.field}: {each.before or 'none'} → {each.after or 'none'}" for each in fields]


def _kinds(kinds: Iterable[str]) -> str:
    """Return kinds of subjects, all five kinds of organisations as what holds them."""
    found = list(kinds)
    if set(found) >= ORGANISATION_KINDS:
        found = [SubjectKind.ORGANISATION, *(kind for kind in found if kind not in ORGANISATION_KINDS)]
    return ", ".join(found)
