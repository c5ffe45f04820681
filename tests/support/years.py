"""The bundled years, and an invented one that nobody must take for the real 2027."""

from importlib import resources

from lanjie_gateway.domain.year_file import load
from lanjie_matcher.workdays import WorkCalendar

FOLDER = resources.files("lanjie_gateway") / "years"
BUNDLED = {name: (FOLDER / name).read_bytes() for name in ("2025.yaml", "2026.yaml")}
YEARS = [load(file, name)[0].days() for name, file in BUNDLED.items()]
CALENDAR = WorkCalendar.of(YEARS)

INVENTED_TEXT = """\
# Invented for tests. The notice for 2027 is not known to us.
year: 2027
example: true
notice: {number: 虚构〔2026〕0号, date: 2026-11-10, issuer: 虚构}
days_off:
  - {name: 元旦, from: 2027-01-01, to: 2027-01-03}
  - {name: 春节, from: 2027-02-05, to: 2027-02-11}
  - {name: 清明节, from: 2027-04-03, to: 2027-04-05}
  - {name: 劳动节, from: 2027-05-01, to: 2027-05-05}
  - {name: 端午节, from: 2027-06-09, to: 2027-06-09}
  - {name: 中秋节, from: 2027-09-15, to: 2027-09-15}
  - {name: 国庆节, from: 2027-10-01, to: 2027-10-07}
working_days: [2027-01-31, 2027-02-14, 2027-05-08, 2027-09-26]
"""
INVENTED = INVENTED_TEXT.encode()
INVENTED_2027, INVENTED_WARNINGS = load(INVENTED, "2027.yaml")
