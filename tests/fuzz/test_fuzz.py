"""A short run of the fuzzer; ``make fuzz`` is a long one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from certd.testing.processes import NotInstalled
from tests.fuzz.__main__ import TOGETHER, WATCHED
from tests.fuzz.seeds import SEEDS, seeds
from tests.fuzz.strangers import TARGETS

SECONDS = 3


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_fuzzer_begins_with_is_right(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


def test_the_fuzzer_knows_every_target() -> None:
    assert list(WATCHED) == list(TARGETS) == list(SEEDS)


def test_the_fuzzer_breaks_nothing_in_a_moment() -> None:
    if importlib.util.find_spec("atheris") is None:
        raise NotInstalled("atheris", "", "it has wheels for Linux on x86-64 only")
    argv = [sys.executable, "-m", "tests.fuzz", TOGETHER, f"--seconds={SECONDS}"]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
