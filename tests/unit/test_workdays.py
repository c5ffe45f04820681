"""Working days: the notices of the State Council, the statute beyond them, and terms that cross the end of a year."""

import datetime

import chinese_calendar
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_matcher.workdays import Due, WorkCalendar, YearOfWork, core_days
from tests.support.years import CALENDAR, INVENTED_2027, YEARS

DAY = datetime.timedelta(days=1)
BEGIN, END = datetime.date(2025, 1, 1), datetime.date(2026, 12, 31)


def day(text):
    return datetime.date.fromisoformat(text)


def days(first, last):
    return [first + each * DAY for each in range((last - first).days + 1)]


def test_each_day_is_what_the_oracle_says():
    for each in days(BEGIN, END):
        assert CALENDAR.is_working_day(each) == chinese_calendar.is_workday(each), each


@pytest.mark.parametrize(
    ("event", "notified", "applied"),
    [
        ("2026-02-10", "2026-02-24", "2026-02-26"),
        ("2026-04-30", "2026-05-11", "2026-05-13"),
        ("2026-09-28", "2026-10-10", "2026-10-13"),
    ],
)
def test_five_and_two_working_days_over_the_holidays_of_2026(event, notified, applied):
    assert CALENDAR.after(day(event), 5) == Due(day(notified), provisional=False)
    assert CALENDAR.after(day(notified), 2) == Due(day(applied), provisional=False)


@settings(max_examples=60)
@given(event=st.dates(day("2024-12-31"), day("2026-09-30")), number=st.integers(1, 40))
def test_a_term_is_what_a_walk_over_the_oracle_gives(event, number):
    at, left = event, number
    while left:
        at += DAY
        left -= chinese_calendar.is_workday(at)
    assert CALENDAR.after(event, number) == Due(at, provisional=False)


@settings(max_examples=60)
@given(event=st.dates(day("2024-12-31"), day("2026-10-31")), number=st.integers(1, 30))
def test_calendar_days_move_on_from_a_day_off_and_from_nothing_else(event, number):
    due = CALENDAR.days_after(event, number)
    assert not due.provisional
    assert chinese_calendar.is_workday(due.day)
    assert not any(chinese_calendar.is_workday(each) for each in days(event + number * DAY, due.day - DAY))


def test_the_end_of_2026_without_the_next_year_is_provisional_and_never_an_error():
    for event in days(day("2026-12-15"), day("2027-12-31")):
        for number in (1, 2, 3, 5, 7, 10):
            for due in (CALENDAR.after(event, number), CALENDAR.days_after(event, number)):
                assert due.day > event
                assert due.provisional == (due.day.year > 2026)
                assert due.day.weekday() < 5
                assert due.day not in core_days(2027)


@pytest.mark.parametrize(
    ("event", "due"),
    [("2026-12-23", Due(day("2026-12-30"), False)), ("2026-12-25", Due(day("2027-01-04"), True))],
)
def test_the_last_term_that_is_certain(event, due):
    assert CALENDAR.after(day(event), 5) == due


def test_when_the_file_of_the_next_year_arrives_the_same_term_is_computed_anew_and_certain():
    event = day("2027-01-28")
    assert CALENDAR.after(event, 7) == Due(day("2027-02-10"), provisional=True)
    known = WorkCalendar.of([*YEARS, INVENTED_2027.days()])
    # Sunday the 31st of January is worked, and the festival is three days longer than by the statute alone.
    assert known.after(event, 7) == Due(day("2027-02-12"), provisional=False)
    assert not any(known.after(each, 10).provisional for each in days(day("2026-12-15"), day("2027-12-15")))


@given(event=st.dates(), number=st.integers(1, 12))
def test_no_day_raises(event, number):
    for due in (CALENDAR.after(event, number), CALENDAR.days_after(event, number)):
        assert due.day > event or event == datetime.date.max
        assert due.provisional or due.day.year in CALENDAR.years


def test_the_end_of_time():
    assert CALENDAR.after(datetime.date.max, 5) == Due(datetime.date.max, provisional=True)
    assert CALENDAR.days_after(datetime.date.max, 5) == Due(datetime.date.max, provisional=True)


@pytest.mark.parametrize("count", [WorkCalendar.after, WorkCalendar.days_after])
def test_a_term_of_no_day_is_none(count):
    with pytest.raises(ValueError, match="at least one day"):
        count(CALENDAR, BEGIN, 0)


def test_the_statute_grants_thirteen_days_and_the_notices_give_them():
    for year in range(2025, 2037):
        # In some years two of them fall on one day.
        assert len(core_days(year)) == (12 if year in (2028, 2031) else 13), year
    for year in (2025, 2026):
        assert not any(chinese_calendar.is_workday(each) for each in core_days(year))


def test_of_other_years_only_the_fixed_days_are_known():
    assert {f"{each:%m-%d}" for each in core_days(2050)} == {"01-01", "05-01", "05-02", "10-01", "10-02", "10-03"}
    assert datetime.date(2023, 5, 2) not in core_days(2023)


def test_a_notice_prevails_in_the_december_before_its_year():
    # As the notice for 2019 did it: Monday the 31st off, Saturday the 29th worked.
    first = YearOfWork(year=2018, notice="a", days_off=frozenset({day("2018-12-30")}), working_days=frozenset())
    off = frozenset({day("2018-12-30"), day("2018-12-31"), day("2019-01-01")})
    second = YearOfWork(year=2019, notice="b", days_off=off, working_days=frozenset({day("2018-12-29")}))
    for years in ([first, second], [second, first]):
        calendar = WorkCalendar.of(years)
        for each in days(day("2018-12-24"), day("2019-01-04")):
            assert calendar.is_working_day(each) == chinese_calendar.is_workday(each), each


def test_of_two_files_for_a_year_the_last_counts():
    wrong = YearOfWork(year=2026, notice="a", days_off=frozenset({day("2026-03-02")}), working_days=frozenset())
    assert WorkCalendar.of([wrong, *YEARS]) == CALENDAR
