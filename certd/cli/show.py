"""``certd show NAME``: the facts of one certificate."""

from __future__ import annotations

from pathlib import Path

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, instant
from certd.cli.overview import overview
from certd.config import state_folder
from certd.errors import ConfigError
from certd.model import Certificate, Version, keyless
from certd.store.glance import chain


@certd_command("show")
@click.argument("name")
def command(context: click.Context, name: str) -> int:
    """Show the current version of a certificate: leaf, chain, SPKI pin, targets."""
    path = config_path(context)
    found = overview(path, name).entries
    if not found:
        known = ", ".join(entry.spec.name for entry in overview(path).entries[:20]) or "none"
        raise ConfigError(f"no certificate is named {name!r}", f"configured: {known}")
    [entry] = found
    spec, lineage = entry.spec, entry.lineage
    facts = [("name", name), ("state", entry.state)]
    facts.append(("names", ", ".join(item.value for item in spec.identifiers)))
    if lineage.current is None:
        facts.append(("certificate", "none yet: `certd renew` gets it"))
    else:
        current = lineage.current
        facts += [("version", str(current.number)), ("CA", current.ca), ("key", _key(current))]
        if wished := spec.profile or current.profile:
            other = f" (configured: {wished})" if wished != current.profile else ""
            facts.append(("profile", f"{current.profile or 'none'}{other}"))
        facts += _leaf(current.certificate)
        facts += _chain(path, name, current.number)
    if spec.backup_key:
        made = lineage.next_key
        text = f'pin-sha256="{made.spki_sha256}", {made.key_type}' if made else "none yet"
        facts.append(("next key", text))
    for item in entry.targets():
        served = f"version {item.serving}" if item.serving else "nothing of ours yet"
        facts.append(("target", f"{item.target}: {item.phase}, serves {served}"))
    width = max(len(label) for label, _ in facts)
    click.echo("\n".join(f"{label:<{width}}  {text}" for label, text in facts))
    return 0


def _key(version: Version) -> str:
    own = ", which certd has never seen (csr)" if keyless(version.wishes) else ""
    return f"{version.key_type}{own}"


def _leaf(certificate: Certificate) -> list[tuple[str, str]]:
    return [
        ("issuer", certificate.issuer),
        ("serial", certificate.serial),
        ("not before", instant(certificate.not_before)),
        ("not after", instant(certificate.not_after)),
        ("fingerprint", f"SHA-256 {certificate.fingerprint}"),
        ("SPKI pin", f'pin-sha256="{certificate.spki_sha256}"'),
        ("ARI id", certificate.ari_id or "–"),
    ]


def _chain(path: Path, name: str, number: int) -> list[tuple[str, str]]:
    from certd import x509

    pem = chain(state_folder(path)[0], name, number)
    return [
        ("chain", f"{x509.shown_name(one.subject)}, issued by {x509.shown_name(one.issuer)}")
        for one in (x509.read_chain(pem) if pem else [])
    ]
