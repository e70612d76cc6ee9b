"""``certd plan``: what would be done now, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click

from certd import due
from certd.cli.options import ahead, config_path, count, instant, say
from certd.cli.options import command as certd_command
from certd.cli.overview import Overview, overview
from certd.standing import Entry


@certd_command("plan")
@click.option("--all", "everything", is_flag=True, help="Also list what has to wait.")
def command(context: click.Context, everything: bool) -> int:
    """Show what `certd renew` or the daemon would do now, and why. Does nothing itself."""
    found = overview(config_path(context))
    acts = 0
    for line, now in _lines(found):
        acts += now
        if now or everything:
            say(line)
    if not acts:
        later = [entry.plan.issue.at for entry in found.entries if not _failed(entry, found.now)]
        following = f"; the next renewal is due {instant(min(later))}" if later else ""
        say(f"nothing to do now for {count(len(found.entries), 'certificate')}{following}")
    if line := _waiting(found):
        say(line)
    return 0


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
    return [
        item.decision.at
        for item in entry.plan.targets
        if item.decision.at > now and entry.lineage.targets[item.target].failure
    ]


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
            names += " …" if len(spec.identifiers) > 4 else ""
            line = f"{spec.name}: {verb} for {names} at {ca}: {plan.issue.reason}"
            yield line, True
            for target in spec.targets:
                yield f"{spec.name}: then deploy to {target}", True
            continue
        when = f"{instant(plan.issue.at)} ({ahead(plan.issue.at, found.now)})"
        yield f"{spec.name}: renew {when}: {plan.issue.reason}", False
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
