"""Invented subjects with sound check digits. None of them exists: the numbers count up from nothing."""

from lanjie_matcher.identifiers import citizen_check, org_code_check, uscc_check


def uscc(number: int, prefix: str = "91320199") -> str:
    """Return an invented USCC with both check digits sound, as `uscc:...`."""
    body = f"{number:07d}T"[-8:]
    organisation = body + org_code_check(body)
    first = prefix + organisation
    return f"uscc:{first}{uscc_check(first)}"


def org_code(company: str) -> str:
    """Return the organisation code inside a USCC, as `org_code:...`."""
    return f"org_code:{company.removeprefix('uscc:')[8:17]}"


def citizen(number: int, born: str = "19800101") -> str:
    """Return an invented citizen number with a sound check digit, as `citizen:...`."""
    body = f"320199{born}{number:03d}"
    return f"citizen:{body}{citizen_check(body)}"
