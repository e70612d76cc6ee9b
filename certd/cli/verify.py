"""``certd verify``: what is in place, and what endpoints serve, at this moment."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from certd import due
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, count, log_to_stderr, say
from certd.cli.status import table
from certd.cli.troubles import turn
from certd.config import Config, TargetSettings
from certd.errors import CertdError, TargetError, bug
from certd.known import Lineage, TargetState
from certd.looking import Sight, look
from certd.model import Bundle, Certificate
from certd.secrets import Secret

FORMAT = 1  # of the JSON: bumped when a key changes its meaning or goes
COLUMNS = ("NAME", "TARGET", "ENDPOINT", "ADDRESS", "SERIAL", "UNTIL", "CHAIN", "TLS", "OK")
COLOURS = {"yes": "green", "NO": "red"}
_MOST_AT_ONCE = 8  # targets


@dataclass(slots=True)
class _Looked:
    """One certificate at one target. ``failure`` is what kept all of it from being looked at."""

    name: str
    target: str
    bundle: Bundle | None = None
    waits: str = ""  # for what, if a newer version is to be deployed there later
    undone: str = ""  # why certd itself has not put ``bundle`` in place there
    sights: list[Sight] = field(default_factory=list)
    failure: CertdError | None = None

    def shown(self) -> list[Sight]:
        """What is in place where it says more than the endpoints do, and those."""
        others = [sight for sight in self.sights if sight.endpoint]
        place = [sight for sight in self.sights if not sight.endpoint]
        if self.failure:
            return [Sight(None, trouble=self.failure)]
        return [*(one for one in place if one.trouble or not others), *others]


@certd_command("verify")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--json", "as_json", is_flag=True, help="Stable JSON, for programs.")
def command(context: click.Context, names: tuple[str, ...], as_json: bool) -> int:
    """Look at what is served: every address of every endpoint of `verify`, now.

    Of targets without endpoints, what is in place is told. Nothing is changed, and a daemon is
    not disturbed. Exit status 1 when anything is not as it should be.
    """
    log_to_stderr(logging.CRITICAL)
    from certd import config as configuration

    config = configuration.load(config_path(context))
    looked = list(_looked(config, config.chosen(names)))
    sights = [(one, sight) for one in looked for sight in one.shown()]
    if as_json:
        lines = ",\n".join(json.dumps(_document(one, sight)) for one, sight in sights)
        click.echo(f'{{"format": {FORMAT}, "endpoints": [\n{lines}\n]}}')
    else:
        table(COLUMNS, [_row(one, sight) for one, sight in sights], len(COLUMNS) - 1, COLOURS)
        for one, sight in sights:
            if sight.trouble:
                say(f"\n{one.name} at {one.target}: {sight.trouble}")
        for one in looked:
            if one.waits and one.bundle:
                version = f"version {one.bundle.version}, until a newer one is deployed"
                say(f"\n{one.name} at {one.target} is to serve {version}: {one.waits}")
    wrong = sum(sight.trouble is not None for _, sight in sights)
    if not as_json:
        all_of_it = f"{wrong} not" if wrong else "all is"
        say(f"\n{count(len(sights), 'look')}: {all_of_it} as it should be")
    return int(wrong > 0)


def _looked(config: Config, names: list[str]) -> Iterator[_Looked]:
    from certd.store.glance import glance

    seen, now = glance(config.state), datetime.now(UTC)
    lineages = {one.name: one for one in (*seen.left, *(there for _, there in seen.wanted))}
    todo: list[tuple[TargetSettings, _Looked]] = []
    for name in names:
        spec, lineage = config.certificates[name], lineages.get(name, Lineage(name))
        current = lineage.current.number if lineage.current else None
        decided = due.targets(spec, lineage, now)
        waits = {item.target: turn(item, now) for item in decided if item.waits}
        for target in spec.targets:
            one = _Looked(name, target, waits=waits.get(target, ""))
            state = lineage.targets.get(target)
            # Until its turn or window has come, what it has is what it should have.
            number = (state and state.serving) if one.waits else current
            one.waits = one.waits if number != current else ""
            one.bundle = _bundle(config.state, name, number) if number else None
            one.undone = _undone(state, number) if number else ""
            todo.append((config.targets[target], one))
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        yield from pool.map(_look, todo)


def _undone(state: TargetState | None, number: int) -> str:
    if state is None or state.version != number:
        return f"version {number} is not deployed there yet"
    if state.phase == "rolled-back":
        return f"version {state.serving} was put back there"
    return f"the deployment of version {number} has failed" if state.phase == "failed" else ""


def _bundle(state: Path, name: str, number: int) -> Bundle:
    """Without its key, so that no seal has to be opened: whoever looks needs none."""
    from certd import x509
    from certd.store.glance import pems

    leaf, chain = pems(state, name, number)
    return Bundle(name, number, leaf, chain, Secret(""), x509.facts(x509.read_chain(leaf)[0]))


def _look(item: tuple[TargetSettings, _Looked]) -> _Looked:
    settings, looked = item
    if looked.bundle is None:
        what, todo = "there is no certificate yet", f"`certd renew {looked.name}` gets it"
        if looked.waits:
            what, todo = "nothing was deployed there yet", "see `certd status`"
        looked.failure = CertdError(what, looked.waits, todo)
        return looked
    try:
        look(looked.bundle, settings, looked.sights)
    except CertdError as error:
        # What is wrong is in the sights, where there are any.
        looked.failure = None if looked.sights else error
    except Exception as error:  # a plugin may raise anything
        looked.failure = bug(error)
    looked.sights = [_own_doing(sight, looked.undone) for sight in looked.sights]
    return looked


def _own_doing(sight: Sight, undone: str) -> Sight:
    """Nobody else has changed what certd has not deployed, or taken back."""
    trouble = sight.trouble
    if sight.endpoint or not undone or type(trouble) is not TargetError:
        return sight
    why = f"{trouble.why}; {undone}" if sight.fingerprint else undone
    return replace(sight, trouble=TargetError(trouble.what, why, "see `certd status`"))


def _leaf(one: _Looked, sight: Sight) -> Certificate | None:
    """The facts of what was seen: those of the bundle where it is that."""
    if sight.served:
        return sight.served.certificate
    ours = one.bundle.certificate if one.bundle else None
    return ours if ours and sight.fingerprint == ours.fingerprint else None


def _row(one: _Looked, sight: Sight) -> tuple[str, ...]:
    leaf = _leaf(one, sight)
    seen = sight.served or (sight.fingerprint and not sight.endpoint)
    ok = "skipped" if sight.skipped else "NO" if sight.trouble else "yes" if seen else "unknown"
    return (
        one.name,
        one.target,
        str(sight.endpoint or "in place"),
        sight.address or "–",
        leaf.serial if leaf else "–",
        f"{leaf.not_after:%F}" if leaf else "–",
        _chain(sight),
        sight.served.tls_version if sight.served else "–",
        ok,
    )


def _chain(sight: Sight) -> str:
    if sight.served is None:
        return "–"
    return "bad" if sight.chain else f"{count(len(sight.served.sent), 'certificate')}"


def _document(one: _Looked, sight: Sight) -> dict[str, Any]:
    leaf, trouble = _leaf(one, sight), sight.trouble
    return {
        "certificate": one.name,
        "target": one.target,
        "version": one.bundle.version if one.bundle else None,
        "endpoint": str(sight.endpoint) if sight.endpoint else None,
        "address": sight.address or None,
        "fingerprint": sight.fingerprint or None,
        "serial": leaf.serial if leaf else None,
        "not_after": leaf.not_after.isoformat() if leaf else None,
        "sent": len(sight.served.sent) if sight.served else None,
        "chain_error": sight.chain or None,
        "tls": sight.served.tls_version if sight.served else None,
        "ok": trouble is None,
        "skipped": sight.skipped or None,
        "error": trouble and {"what": trouble.what, "why": trouble.why, "next": trouble.next},
    }
