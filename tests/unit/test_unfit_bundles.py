"""What is stored is checked once more before any target is touched: pair, names, chain and end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.config import Hooks, TargetSettings
from certd.model import Bundle
from certd.testing.chains import Authority, bundle, pem
from certd.x509 import facts
from tests.rollouts import Plugin, complete, step, store_with_www

OTHER = bundle("www", 2, "other.example.com")


def _other_names(good: Bundle) -> Bundle:
    """As if its leaf had been taken for one of these names."""
    wanted = replace(OTHER.certificate, identifiers=good.certificate.identifiers)
    return replace(OTHER, version=good.version, certificate=wanted)


def _expired(good: Bundle) -> Bundle:
    middle, hour = Authority.root().authority("Intermediate 1"), timedelta(hours=1)
    over = datetime.now(UTC) - hour
    leaf = middle.leaf(good.key_pem, "www.example.com", not_before=over - 9 * hour, not_after=over)
    chain = pem(middle.certificate)
    return replace(good, leaf_pem=pem(leaf), chain_pem=chain, certificate=facts(leaf))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(
            lambda good: replace(good, key_pem=OTHER.key_pem), "its public key is not", id="pair"
        ),
        pytest.param(_other_names, "it lacks www.example.com", id="names"),
        pytest.param(lambda good: replace(good, chain_pem=OTHER.chain_pem), "chain", id="chain"),
        pytest.param(_expired, "expired", id="end"),
    ],
)
def test_no_target_is_touched_by_what_is_not_fit(
    spoil: Callable[[Bundle], Bundle],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployed = list[int]()
    plugin = Plugin(lambda bundle: deployed.append(bundle.version))
    hooks = Hooks(before=("touch", str(tmp_path / "hook")))
    with store_with_www() as store:
        plain = [TargetSettings(name, "plugin", plugin) for name in ("one", "two")]
        step(store, *plain)
        complete(store)
        kept = store.lineages.bundle

        def spoiled(name: str, number: int) -> Bundle:
            return spoil(kept(name, number)) if number == 2 else kept(name, number)

        monkeypatch.setattr(store.lineages, "bundle", spoiled)
        states = step(store, *(replace(one, hooks=hooks) for one in plain))
        for name in ("one", "two"):
            state = states[name]
            assert (state.version, state.serving) == (2, 1)
            assert state.failure is not None
            assert state.failure.what == "version 2 is not fit to be deployed"
            assert why in state.failure.why
            assert state.failure.next == "`certd renew www --force` gets another"
            assert state.retry_at is not None
        monkeypatch.undo()
        assert deployed == [1, 1], "neither deployed nor put back"
        assert not (tmp_path / "hook").exists()
        assert {one.serving for one in step(store, *plain).values()} == {1}, "its time has not come"
