"""Which versions go, where they are known by their numbers."""

from __future__ import annotations

import pytest
from certd_deploy.versions import surplus


@pytest.mark.parametrize(
    ("names", "in_use", "gone"),
    [
        pytest.param(["1", "2", "3"], set(), [], id="the newest three stay"),
        pytest.param(["1", "2", "3", "4"], set(), ["1"], id="the oldest goes"),
        pytest.param(["10", "9", "8", "11"], set(), ["8"], id="as numbers, not as words"),
        pytest.param(
            ["1-ab", "2-ab", "2-cd", "3-ab", "4-ab"], set(), ["1-ab", "2-ab"], id="by its number"
        ),
        pytest.param(
            ["1", "2", "3", "4", "5", "6"],
            {"versions/1", "versions/3", None, "/elsewhere"},
            ["2"],
            id="what is in use, and was, stays",
        ),
    ],
)
def test_what_is_in_use_and_the_newest_stay(
    names: list[str], in_use: set[str | None], gone: list[str]
) -> None:
    assert surplus(names, in_use) == gone
    assert surplus(iter(names), in_use) == gone
