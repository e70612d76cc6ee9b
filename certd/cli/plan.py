"""``certd plan``: what would be done now, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from certd.cli.options import ahead, config_path, instant
from certd.cli.options import command as certd_command
from certd.cli.overview import Overview, overview


@certd_command("plan")
@click.option("--all", "everything", is_flag=True, help="Also list what has to wait.")
def command(context: click.Context, everything: bool) -> int:
    """Show what `certd renew` or the daemon would do now, and why. Does nothing itself."""
    found = overview(config_path(context))
    acts = 0
    for line, now in _lines(found):
        acts += now
        if now or everything:
            click.echo(line)
    if not acts:
        later = [entry.plan.issue.at for entry in found.entries]
        following = f"; the next renewal is due {instant(min(later))}" if later else ""
        click.echo(f"nothing to do now for {len(found.entries)} certificates{following}")
    return 0


def _lines(found: Overview) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it speaks of now."""
    for entry in found.entries:
        spec, plan = entry.spec, entry.plan
        if plan.issue.due(found.now):
            verb = "renew" if entry.lineage.current else "issue"
            names = ", ".join(name.value for name in spec.identifiers[:4])
            names += " …" if len(spec.identifiers) > 4 else ""
            line = f"{spec.name}: {verb} for {names} at {spec.cas[0]}: {plan.issue.reason}"
            yield line, True
            for target in spec.targets:
                yield f"{spec.name}: then deploy to {target}", True
            continue
        when = f"{instant(plan.issue.at)} ({ahead(plan.issue.at, found.now)})"
        yield f"{spec.name}: renew {when}: {plan.issue.reason}", False
        for item in plan.targets:
            decision = item.decision
            now = decision.due(found.now)
            when = "" if now else f" {instant(decision.at)}"
            yield f"{spec.name}: {item.act} {item.target}{when}: {decision.reason}", now
