"""The operator's programs before and after a deployment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.config import Hooks, TargetSettings
from certd.model import Bundle
from certd.store import Store
from tests.rollouts import Plugin, step, store_with_www


@pytest.fixture
def store() -> Iterator[Store]:
    with store_with_www() as store:
        yield store


def hooked(
    folder: Path, before: str = "true", after: str = "true", **more: float
) -> TargetSettings:
    """A target with hooks that note down their surroundings, then run these words of shell."""

    def argv(words: str) -> tuple[str, ...]:
        return "sh", "-c", f"env | sort | grep CERTD_ >> {folder}/seen; {words}"

    hooks = Hooks(argv(before), argv(after), 20.0)

    def deploys(bundle: Bundle) -> None:
        with (folder / "seen").open("a") as seen:
            seen.write("deployed\n")

    return TargetSettings("web", "plugin", Plugin(deploys), hooks=hooks)


def test_hooks_are_run_before_and_after(store: Store, tmp_path: Path) -> None:
    assert step(store, hooked(tmp_path))["web"].phase == "verified"
    leaf = store.lineages.bundle("www", 1).certificate
    common = [
        f"CERTD_FINGERPRINT={leaf.fingerprint}",
        "CERTD_HOOK=pre",
        "CERTD_NAME=www",
        f"CERTD_NAMES={leaf.identifiers[0].value}",
        f"CERTD_NOT_AFTER={leaf.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "CERTD_RESULT=",
        "CERTD_TARGET=web",
        "CERTD_VERSION=1",
    ]
    afterwards = [line.replace("HOOK=pre", "HOOK=post") for line in common]
    afterwards[5] = "CERTD_RESULT=verified"
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == [*common, "deployed", *afterwards]


def test_where_the_first_hook_fails_nothing_is_deployed(store: Store, tmp_path: Path) -> None:
    state = step(store, hooked(tmp_path, before="echo not now; exit 3"))["web"]
    assert state.phase == "failed"
    assert state.failure is not None
    assert state.failure.what == "pre_hook of web has failed"
    assert 'sh ended with status 3: "not now"' in state.failure.why
    seen = (tmp_path / "seen").read_text()
    assert "deployed" not in seen
    assert "CERTD_RESULT=failed" in seen, "what it has begun can be undone"


def test_where_the_last_hook_fails_the_new_version_stays(store: Store, tmp_path: Path) -> None:
    state = step(store, hooked(tmp_path, after="exit 1"))["web"]
    assert state.phase == "applied"
    assert state.failure is not None
    assert state.failure.what == "post_hook of web has failed"
    assert state.retry_at is not None
    assert state.retry_at > datetime.now(UTC) + timedelta(seconds=30)
    store.lineages.retry_now("www", datetime.now(UTC), force=False)
    state = step(store, hooked(tmp_path))["web"]
    assert (state.phase, state.failure) == ("verified", None)
    assert (tmp_path / "seen").read_text().count("deployed") == 1


@pytest.mark.fault(row=51)
@pytest.mark.parametrize(
    "words",
    [
        pytest.param("sleep 1000", id="hangs"),
        pytest.param("sleep 1000 & sleep 1000 & wait", id="forks"),
        pytest.param("exec 2>&1; while :; do echo flood flood flood; done", id="floods"),
    ],
)
def test_a_hook_that_hangs_forks_or_floods_is_ended(
    store: Store, tmp_path: Path, words: str
) -> None:
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/group\n{words}\n")
    script.chmod(0o700)
    settings = replace(hooked(tmp_path), hooks=Hooks((str(script),), timeout=2.0))
    began = time.monotonic()
    state = step(store, settings)["web"]
    assert time.monotonic() - began < 20
    assert state.phase == "failed"
    assert state.failure is not None
    assert "did not end within 2 s and was killed" in state.failure.why
    assert len(state.failure.why) < 2000
    group = int((tmp_path / "group").read_text())
    until = time.monotonic() + 10
    while time.monotonic() < until:  # the kernel takes a moment
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
    else:
        pytest.fail("something of its process group still runs")
