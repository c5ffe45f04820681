"""Invented subjects, listings and tenders for the demo, the tests and the benchmarks.

Nobody here exists. Company codes carry an organisation code that begins with ``XX``, which no register gives out;
citizen numbers belong to a region 3299xx that was never assigned; passports are those of UTO, the specimen country of
ICAO 9303; names say 示例. All check digits are sound, so that everything works on them as on real ones.

Pure: the same seed and day give the same rows, byte for byte.
"""

import csv
import datetime
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lanjie_gateway.cli.invented_lists import CITIES, FORMS, SHAPES, TRADES, WORDS_1, WORDS_2, Sanction, Shape
from lanjie_matcher.civil_time import last_day_after_months
from lanjie_matcher.identifiers import citizen_check, org_code_check, uscc_check

COLUMNS: Final = tuple(
    "op subject_kind name id_kind id_number other_ids list_type decision_no authority authority_uscc reason basis"
    " notice_date decision_date served_date listed_on expires_on publicity_until retention_until removal_conditions"
    " remedies measure_hints region sanction_no sanction_kind sanction_from sanction_to source source_record_id"
    " source_version related_persons record_class cautious_review".split()
)
"""The canonical columns of a list file, in their order."""

SOURCE: Final = "示例平台"
BIDDER_COLUMNS: Final = ("identifier", "name")

_CODE_KINDS: Final = ("91", "92", "93", "12", "52", "31", "N2", "A1")
_CODE_WEIGHTS: Final = (860, 70, 25, 10, 10, 10, 10, 5)
_SUBJECT_KINDS: Final = {
    "91": "enterprise",
    "92": "individual_business",
    "93": "cooperative",
    "12": "public_institution",
    "52": "social_org",
    # Real files say no more than this about the others; for 31 the code tells, for N2 and A1 nothing does.
    "31": "organisation",
    "N2": "organisation",
    "A1": "organisation",
}
_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_BEARING: Final = ("SXBZXR", "TQNMGGZ", "SJYZWF")
"""List types whose measures restrict an enterprise both as a supplier and as a bidder."""
_NOT_BEARING: Final = ("WHLYYZ", "TJYZSX", "AQSCYZ", "HGYZSX", "JZSCHM", "SHBXYZ")
"""List types with no measure on either."""

Row = dict[str, str]


def uscc(rng: random.Random, first: str = "91", region: str = "320100") -> str:
    """Return an invented USCC, both check digits sound.

    Args:
        rng: source of randomness.
        first: registering authority and kind, two characters.
        region: six digits.
    """
    organisation = "XX" + "".join(rng.choices(_ALPHABET, k=6))
    body = f"{first}{region}{organisation}{org_code_check(organisation)}"
    return body + uscc_check(body)


def citizen_number(rng: random.Random, today: datetime.date) -> str:
    """Return an invented citizen number of somebody of 27 to 65 years, its check digit sound."""
    # Of age on the day of even the oldest listing (Art. 3).
    born = today - datetime.timedelta(days=rng.randint(27 * 366, 65 * 365))
    body = f"3299{rng.randint(1, 99):02d}{born:%Y%m%d}{rng.randint(900, 999)}"
    return body + citizen_check(body)


def passport_number(rng: random.Random) -> str:
    """Return an invented passport number with its country, as the import takes it."""
    return f"UTO:XX{rng.randint(0, 9_999_999):07d}"


def company_name(rng: random.Random, first: str = "91", city: str = "南京") -> str:
    """Return the name of a company that does not exist."""
    return f"{city}示例{rng.choice(WORDS_1)}{rng.choice(WORDS_2)}{FORMS[first].format(trade=rng.choice(TRADES))}"


def person_name(rng: random.Random) -> str:
    """Return the name of a person who does not exist: 示 is no family name."""
    return f"示{rng.choice(WORDS_1)}{rng.choice(WORDS_2)}"


def listings(seed: int, count: int = 20_000, *, today: datetime.date) -> Iterator[Row]:
    """Yield rows of a list file, in the canonical columns, over all list types.

    About one row in ten has ended by its date, one in fifty has not begun; one in thirty is a second listing of a
    subject that has one. One in two hundred is a person on the wage list in his own right.

    Args:
        seed: of the randomness.
        count: number of rows.
        today: the day the dates are set about.
    """
    rng = random.Random(seed)  # noqa: S311  made-up data
    taken: set[str] = set()
    companies: list[Row] = []
    weights = [shape.weight for shape in SHAPES]
    for place in range(count):
        # The first rows go through all list types, so that a short list has them all.
        shape = SHAPES[place] if place < len(SHAPES) else rng.choices(SHAPES, weights)[0]
        city = rng.choice(CITIES)
        person = rng.randrange(1000) < shape.persons
        subject = _person(rng, today, taken) if person else _organisation(rng, city, taken)
        if not person and companies and rng.random() < 1 / 30:
            subject = rng.choice(companies)
        elif not person:
            companies.append(subject)
            # Enough to draw second listings from.
            del companies[:-500]
        yield _row(rng, shape, city, subject, place=place, today=today)


def tender(
    seed: int,
    rows: Sequence[Mapping[str, str]],
    count: int = 1_000,
    listed: int = 12,
    without_measure: int = 4,
    *,
    today: datetime.date,
) -> list[Row]:
    """Return the bidders of a tender: identifier and name.

    Args:
        seed: of the randomness.
        rows: listings to draw the listed bidders from, as `listings` yields them.
        count: number of bidders.
        listed: how many of them have a listing in force.
        without_measure: how many of the listed bear no measure for ``procurement.supplier`` and ``tendering.bidder``.
        today: the day a listing must be in force on.

    Raises:
        ValueError: `rows` does not hold that many.
    """
    rng = random.Random(seed)  # noqa: S311  made-up data
    known = {row["id_number"] for row in rows}
    single = _single_listings(rows, today)
    bidders = [
        *_drawn(rng, single, _BEARING, listed - without_measure),
        *_drawn(rng, single, _NOT_BEARING, without_measure),
    ]
    while len(bidders) < count:
        region, city, _ = rng.choice(CITIES)
        number = uscc(rng, region=_county(rng, region))
        if number not in known:
            known.add(number)
            bidders.append({"identifier": f"uscc:{number}", "name": company_name(rng, city=city)})
    rng.shuffle(bidders)
    return bidders


def write_csv(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> int:
    """Write rows as CSV in UTF-8 with a header line; return how many there were."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            written += 1
    return written


def in_force(row: Mapping[str, str], today: datetime.date) -> bool:
    """Whether the listing of a row is in force by its dates."""
    day = today.isoformat()
    ends = (row["expires_on"], row["publicity_until"], row["retention_until"])
    return max(row["served_date"], row["listed_on"]) <= day and all(not end or day <= end for end in ends)


def _single_listings(rows: Sequence[Mapping[str, str]], today: datetime.date) -> dict[str, list[Mapping[str, str]]]:
    """Enterprises with one listing, in force, by list type: what a bidder bears is then known for certain."""
    times: dict[str, int] = {}
    for row in rows:
        times[row["id_number"]] = times.get(row["id_number"], 0) + 1
    found: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["subject_kind"] == "enterprise" and times[row["id_number"]] == 1 and in_force(row, today):
            found.setdefault(row["list_type"], []).append(row)
    return found


def _drawn(
    rng: random.Random, single: Mapping[str, Sequence[Mapping[str, str]]], types: Sequence[str], count: int
) -> list[Row]:
    # In turn, so that a tender shows more than the commonest list type.
    pools = [rng.sample(found, min(len(found), count)) for code in types if (found := single.get(code, ()))]
    bidders: list[Row] = []
    while len(bidders) < count:
        pools = [pool for pool in pools if pool]
        if not pools:
            raise ValueError(f"the listings do not hold {count} enterprises on {', '.join(types)}")
        for pool in pools[: count - len(bidders)]:
            row = pool.pop()
            bidders.append({"identifier": f"uscc:{row['id_number']}", "name": row["name"]})
    return bidders


def _county(rng: random.Random, region: str) -> str:
    return f"{region[:4]}{rng.choice(('02', '04', '05', '06', '11', '12'))}"


def _organisation(rng: random.Random, city: tuple[str, str, str], taken: set[str]) -> Row:
    first = rng.choices(_CODE_KINDS, _CODE_WEIGHTS)[0]
    number = _untaken(taken, lambda: uscc(rng, first, _county(rng, city[0])))
    # Some platforms still send the organisation code along.
    other = f"org_code:{number[8:17]}" if rng.random() < 0.05 else ""
    return {
        "subject_kind": _SUBJECT_KINDS[first],
        "name": company_name(rng, first, city[1]),
        "id_kind": "uscc",
        "id_number": number,
        "other_ids": other,
    }


def _person(rng: random.Random, today: datetime.date, taken: set[str]) -> Row:
    foreign = rng.random() < 0.01
    make = (lambda: passport_number(rng)) if foreign else (lambda: citizen_number(rng, today))
    return {
        "subject_kind": "natural_person",
        "name": person_name(rng),
        "id_kind": "passport" if foreign else "citizen",
        "id_number": _untaken(taken, make),
        "other_ids": "",
    }


def _row(
    rng: random.Random,
    shape: Shape,
    city: tuple[str, str, str],
    subject: Mapping[str, str],
    *,
    place: int,
    today: datetime.date,
) -> Row:
    region, name, short = city
    dates = _dates(rng, shape, today)
    person = subject["subject_kind"] == "natural_person"
    number = shape.number.format(short=short, year=dates["decision_date"][:4], serial=f"{place + 1:05d}")
    row = dict.fromkeys(COLUMNS, "")
    row |= subject
    row |= dates
    row |= _sanction(rng, shape, number, dates, person=person)
    row |= {
        "op": "I",
        "list_type": shape.code,
        "decision_no": number,
        "authority": shape.authority.format(city=name),
        "authority_uscc": _authority_code(shape, region),
        "reason": rng.choice(shape.reasons),
        "basis": shape.basis,
        "removal_conditions": shape.removal,
        "remedies": shape.remedies,
        "measure_hints": "列入期间依法适用已公布的失信惩戒措施清单所列措施。",
        "region": region,
        "source": SOURCE,
        "source_record_id": f"SL{place + 1:07d}",
        "source_version": "1",
    }
    if not person and rng.random() < 0.3:
        # A mark (Art. 32): it is kept, and it has no effect.
        row["related_persons"] = f"legal_representative:citizen:{citizen_number(rng, today)}"
    return row


def _dates(rng: random.Random, shape: Shape, today: datetime.date) -> Row:
    term = shape.months * 30 or 1_000
    chance = rng.random()
    if chance < 0.02:
        listed = today + datetime.timedelta(days=rng.randint(1, 20))
    elif chance < 0.12:
        listed = today - datetime.timedelta(days=rng.randint(term + 40, term + 700))
    else:
        listed = today - datetime.timedelta(days=rng.randint(1, term - 30))
    decided = listed - datetime.timedelta(days=rng.randint(6, 20))
    end = last_day_after_months(listed, shape.months) if shape.months else None
    dates = {
        "notice_date": decided - datetime.timedelta(days=rng.randint(10, 30)),
        "decision_date": decided,
        "served_date": decided + datetime.timedelta(days=rng.randint(1, 6)),
        "listed_on": listed,
    }
    if end is not None:
        dates[shape.ends] = end
    elif 0.02 <= chance < 0.12:
        # Where no term ends it, retention does.
        dates["retention_until"] = listed + datetime.timedelta(days=term)
    return {column: day.isoformat() for column, day in dates.items()}


def _sanction(rng: random.Random, shape: Shape, number: str, dates: Mapping[str, str], *, person: bool) -> Row:
    fitting: list[Sanction] = [each for each in shape.sanctions if each.person in (None, person)]
    if not fitting:
        return {}
    sanction = rng.choices(fitting, [each.weight for each in fitting])[0]
    start = datetime.date.fromisoformat(dates["decision_date"])
    return {
        "sanction_no": f"{number}-1",
        "sanction_kind": sanction.kind,
        "sanction_from": start.isoformat(),
        "sanction_to": last_day_after_months(start, sanction.months).isoformat(),
    }


@functools.cache
def _authority_code(shape: Shape, region: str) -> str:
    # One and the same for all listings of an authority.
    place = next(number for number, each in enumerate(SHAPES) if each.code == shape.code)
    organisation = f"XX{region[2:4]}{place:02d}00"
    body = f"11{region}{organisation}{org_code_check(organisation)}"
    return body + uscc_check(body)


def _untaken(taken: set[str], make: Callable[[], str]) -> str:
    number = make()
    while number in taken:
        number = make()
    taken.add(number)
    return number
