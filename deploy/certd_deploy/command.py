"""The operator's commands after a deployment: test and reload."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from certd.api import ConfigError, TargetError, run_program, said


def check_timeout(seconds: float) -> None:
    """Check a setting that is the time limit of a command.

    Raises:
        ConfigError: it cannot be one.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"{seconds:g} is no time limit", "it is in seconds", "write a number above 0"
        )


def run(
    setting: str,
    argv: Sequence[str],
    variables: Mapping[str, str],
    timeout_seconds: float,
    what: str,
) -> None:
    """Run a setting's program to its end; ``what`` opens the error if that is not a good one.

    Raises:
        TargetError: it could not be started, took too long, or its exit status is not 0.
    """
    program = argv[0]
    try:
        ended = run_program(argv, variables, timeout_seconds)
    except OSError as error:
        raise TargetError(
            what,
            f"{program} cannot be started: {error.strerror}",
            f"correct {setting} = […], or install the program",
        ) from error
    if ended.how:
        todo = "run the command by hand to see what it lacks"
        if not ended.by_itself:
            todo = "see why it hangs, or raise reload_timeout"
        raise TargetError(what, f"{program} {ended.how}{said(ended.output + ended.errors)}", todo)
