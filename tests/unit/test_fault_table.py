"""Each row of docs/faults.md has its tests, and names the files they are in."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parents[2]
PAGE = HERE / "docs" / "faults.md"
ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]*) \|$", re.MULTILINE)

WANTED = {*range(1, 44), *range(47, 56)}
# These need what is still to come; whoever brings it marks its tests and takes the row away.
COMING: set[int] = set()


def marked(tree: ast.Module) -> Iterator[int]:
    """The rows of all ``@pytest.mark.fault(row=…)`` of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    yield ast.literal_eval(mark.keywords[0].value)


def files_of_rows() -> dict[int, set[str]]:
    found = defaultdict(set)
    for path in (HERE / "tests").rglob("test_*.py"):
        for row in marked(ast.parse(path.read_text())):
            found[row].add(str(path.relative_to(HERE)))
    return found


def test_every_row_has_a_test() -> None:
    assert files_of_rows().keys() == WANTED - COMING


def test_the_page_names_the_files_of_the_tests() -> None:
    page = {
        int(row): set(re.findall("`([^`]+)`", cell)) for row, cell in ROW.findall(PAGE.read_text())
    }
    assert page == files_of_rows()
