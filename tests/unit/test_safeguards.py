"""docs/safeguards.md names only code and tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "matcher", ROOT / "gateway", ROOT / "sdk" / "python"]
PAGE = ROOT / "docs" / "safeguards.md"
CODE = re.compile(r"`([a-z_][\w.]*):([A-Za-z_][\w.]*)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(heading):
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ARTICLES = [
    *("2", "3", "4", "19", "20", "21", "24", *map(str, range(26, 42)), "43", *map(str, range(45, 50))),
    *(*map(str, range(60, 70)), "71", "PIPL 24"),
]
"""What asks something of the software: of the regulation, and of the law that protects personal information."""


def articles_of(cell):
    """Return the articles of a first column: `19–21, 45`, `PIPL 24(3)`."""
    found = set()
    for part in re.split(r",\s*", re.sub(r"\([0-9]+\)", "", cell)):
        said = re.fullmatch(r"(PIPL )?([0-9]+)(?:[–-]([0-9]+))?", part)
        assert said is not None, f"not an article: {part}"
        law, first, last = said.groups(default="")
        found |= {f"{law}{number}" for number in range(int(first), int(last or first) + 1)}
    return found


ENFORCED = rows("Enforced and tested")
PLANNED = rows("Not yet enforced, planned")
AWAITED: list[str] = []
"""Articles for which there is nothing yet; to be empty."""
CLAIMED_CODE = sorted({found for row in ENFORCED for found in CODE.findall(row[2])})
CLAIMED_TESTS = sorted({found for row in ENFORCED for found in TEST.findall(row[3])})


@cache
def names_of(path):
    """Every function, class, method and constant of a file, dotted as `Class.method`."""
    found = set()

    def walk(body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")

    walk(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def file_of(module):
    path = Path(*module.split("."))
    candidates = [base / each for base in SOURCES for each in (path.with_suffix(".py"), path / "__init__.py")]
    return next((each for each in candidates if each.exists()), None)


def test_page_is_read():
    assert len(ENFORCED) >= 50
    assert all(len(row) == 4 for row in ENFORCED)
    assert all(len(row) == 3 for row in PLANNED)


def test_every_article_has_a_row_with_code_and_test():
    enforced = set().union(*(articles_of(row[0]) for row in ENFORCED))
    planned = set().union(*(articles_of(row[0]) for row in PLANNED))
    assert not [each for each in ARTICLES if each not in enforced | planned], "articles of no row at all"
    only_planned = [each for each in ARTICLES if each not in enforced]
    assert only_planned == AWAITED, "articles that are only planned"


def test_every_article_has_a_test_that_is_named_after_it():
    named = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for test in re.findall(r"def (test_(?:pipl_)?article_[0-9_]+)", path.read_text(encoding="utf-8")):
            law = "PIPL " if "pipl" in test else ""
            named |= {f"{law}{int(number)}" for number in re.findall(r"_([0-9]+)", test)}
    assert [each for each in ARTICLES if each not in named] == AWAITED, "articles without a test of their own"


def test_every_enforced_rule_names_code_and_test():
    bare = [row[1] for row in ENFORCED if not CODE.findall(row[2]) or not TEST.findall(row[3])]
    assert not bare


def test_nothing_in_the_columns_escapes_the_reader():
    for row in ENFORCED:
        assert len(CODE.findall(row[2])) == row[2].count("`") // 2, row[1]
    for row in ENFORCED:
        assert len(TEST.findall(row[3])) == row[3].count("`") // 2, row[1]


@pytest.mark.parametrize(("module", "name"), CLAIMED_CODE)
def test_named_code_exists(module, name):
    path = file_of(module)
    assert path is not None
    assert name in names_of(path)


@pytest.mark.parametrize(("file", "name"), CLAIMED_TESTS)
def test_named_test_exists(file, name):
    path = ROOT / file
    assert path.exists()
    assert name in names_of(path)
