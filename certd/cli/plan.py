"""``certd plan``: what would be done now, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import click

from certd import deploying, due
from certd.cli.options import ahead, config_path, count, instant, say
from certd.cli.options import command as certd_command
from certd.cli.overview import Overview, overview
from certd.config.wellknown import WELL_KNOWN
from certd.errors import CertdError
from certd.model import BY_DNS
from certd.standing import Entry

MOST_EXAMINED = 20  # certificates whose zones are looked at, all at once


@certd_command("plan")
@click.option("--all", "everything", is_flag=True, help="Also list what has to wait.")
@click.option("--offline", is_flag=True, help="Do not look at the names' zones in DNS.")
def command(context: click.Context, everything: bool, offline: bool) -> int:
    """Show what `certd renew` or the daemon would do now, and why. Does nothing itself.

    Of what would be ordered where DNS decides, the zones are looked at as before an order: CAA,
    DNSSEC, where the record of a challenge belongs, and whether its name servers agree.
    """
    found = overview(config_path(context))
    acts = 0
    for line, now in _lines(found):
        acts += now
        if now or everything:
            say(line)
    if not offline:
        for line in _preflight(config_path(context), found):
            say(line)
    if not acts:
        ordered = [entry for entry in found.entries if not entry.spec.pulled]
        later = [entry.plan.issue.at for entry in ordered if not _failed(entry, found.now)]
        following = f"; the next renewal is due {instant(min(later))}" if later else ""
        say(f"nothing to do now for {count(len(found.entries), 'certificate')}{following}")
    if line := _waiting(found):
        say(line)
    return 0


def _preflight(path: Path, found: Overview) -> Iterator[str]:
    """What the zones of the names say, of the first that would be ordered now."""
    ordered = [entry for entry in found.entries if entry.plan.issue.due(found.now)]
    if not any(_by_dns(entry) for entry in ordered):
        return
    from certd import config as configuration
    from certd import preflight
    from certd.ca.clients import Clients
    from certd.store import Store

    config = configuration.load(path)
    store = Store.look(config.state, config.seal)
    clients = Clients(config.cas, store.accounts, config.contact)

    def look(item: tuple[Entry, str]) -> list[str]:
        entry, ca = item
        spec, lineage = entry.spec, entry.lineage
        try:
            found = preflight.examined(spec, lineage, clients(ca), config, store)
        except CertdError as error:
            return [f"{spec.name}: DNS was not looked at: {error}"]
        return [f"{spec.name}: DNS: {line}" for line in found]

    def is_examined(entry: Entry, ca: str) -> bool:
        name, challenge = entry.spec.name, due.challenge(entry.spec, entry.lineage)
        return name in config.certificates and config.is_examined(name, ca, challenge)

    asked = [
        (entry, (due.askable(entry.spec, entry.lineage, found.now) or entry.spec.cas)[0])
        for entry in ordered
    ]
    examined = [item for item in asked if is_examined(*item)]
    try:
        with ThreadPoolExecutor(MOST_EXAMINED) as pool:
            for lines in pool.map(look, examined[:MOST_EXAMINED]):
                yield from lines
        if len(examined) > MOST_EXAMINED:
            yield f"DNS was looked at for the first {MOST_EXAMINED} only"
    finally:
        clients.close()
        store.close()


def _by_dns(entry: Entry) -> bool:
    """Whether it may be one whose zones matter: to a private CA they do by DNS challenges only."""
    known = any(ca in WELL_KNOWN for ca in entry.spec.cas)
    return known or bool(entry.spec.self_check) or not set(BY_DNS).isdisjoint(entry.spec.challenges)


def _waiting(found: Overview) -> str:
    """What has failed and is not tried again yet; "" when nothing is."""
    attempts = {
        entry.spec.name: min(again)
        for entry in found.entries
        if (again := [*_failed(entry, found.now), *_failed_targets(entry, found.now)])
    }
    if not attempts:
        return ""
    names = ", ".join(list(attempts)[:4]) + (" …" if len(attempts) > 4 else "")
    first = min(attempts.values())
    if first >= due.NEVER:
        return f"failed and stopped: {names}; see `certd status`, then `certd renew NAME`"
    when = f"{instant(first)} ({ahead(first, found.now)})"
    return f"failed and waiting: {names}; the next attempt is due {when}"


def _failed(entry: Entry, now: datetime) -> list[datetime]:
    """When the issuance that has failed is tried again; empty when none waits for that."""
    at = entry.plan.issue.at
    return [at] if entry.lineage.failure and at > now else []


def _failed_targets(entry: Entry, now: datetime) -> list[datetime]:
    """One that waits for another target waits for whatever is done first."""
    failed = {state.target for state in entry.targets() if state.failure}
    times = [item.decision.at for item in entry.plan.targets if item.act != "look"]
    return [
        min(times) if item.decision.at >= due.NEVER else item.decision.at
        for item in entry.plan.targets
        if item.decision.at > now and item.target in failed
    ]


def _turn(entry: Entry, target: str, now: datetime) -> str:
    """What a deployment there will wait for, once there is something to deploy."""
    rule = next((one for one in entry.spec.rules if one.target == target), None)
    if rule is None:
        return ""
    if first := [name for name in rule.after if name in entry.spec.targets]:
        return f", once {' and '.join(first)} {'is' if len(first) == 1 else 'are'} verified"
    opens, _ = deploying.opens(rule, entry.lineage, now)
    return f", when its window opens ({instant(opens)})" if opens > now else ""


def _lines(found: Overview) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it speaks of now."""
    for entry in found.entries:
        spec, plan = entry.spec, entry.plan
        if plan.next_key:
            yield f"{spec.name}: make its backup key: {plan.next_key.reason}", True
        if plan.issue.due(found.now):
            verb = "renew" if entry.lineage.current else "issue"
            names = ", ".join(name.value for name in spec.identifiers[:4])
            ca = (due.askable(spec, entry.lineage, found.now) or spec.cas)[0]
            if spec.pulled:
                yield f"{spec.name}: ask {ca} for it: {plan.issue.reason}", True
                continue
            names += " …" if len(spec.identifiers) > 4 else ""
            line = f"{spec.name}: {verb} for {names} at {ca}: {plan.issue.reason}"
            yield line, True
            for target in spec.targets:
                yield f"{spec.name}: then deploy to {target}{_turn(entry, target, found.now)}", True
            continue
        when = f"{instant(plan.issue.at)} ({ahead(plan.issue.at, found.now)})"
        verb = "ask for it" if spec.pulled else "renew"
        yield f"{spec.name}: {verb} {when}: {plan.issue.reason}", False
        if plan.ask:
            now = plan.ask.due(found.now)
            when = "" if now else f" {instant(plan.ask.at)}"
            ca = entry.lineage.current.ca if entry.lineage.current else spec.cas[0]
            yield f"{spec.name}: ask {ca} when to renew{when}: {plan.ask.reason}", now
        for item in plan.targets:
            decision = item.decision
            now = decision.due(found.now)
            when = "" if now else f" {instant(decision.at)}"
            yield f"{spec.name}: {item.act} {item.target}{when}: {decision.reason}", now
