"""``certd show NAME``: the facts of one certificate."""

from __future__ import annotations

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, instant
from certd.cli.overview import overview
from certd.errors import ConfigError
from certd.model import Certificate


@certd_command("show")
@click.argument("name")
def command(context: click.Context, name: str) -> int:
    """Show the current version of a certificate: leaf, chain, SPKI pin, targets."""
    path = config_path(context)
    found = overview(path)
    entry = next((entry for entry in found.entries if entry.spec.name == name), None)
    if entry is None:
        known = ", ".join(entry.spec.name for entry in found.entries[:20]) or "none"
        raise ConfigError(f"no certificate is named {name!r}", f"configured: {known}")
    spec, lineage = entry.spec, entry.lineage
    facts = [("name", name), ("state", entry.state)]
    facts.append(("names", ", ".join(item.value for item in spec.identifiers)))
    if lineage.current is None:
        facts.append(("certificate", "none yet: `certd renew` gets it"))
    else:
        current = lineage.current
        facts += [("version", str(current.number)), ("CA", current.ca), ("key", current.key_type)]
        facts += _leaf(current.certificate)
        facts += _chain(context, name, current.number)
    for item in entry.targets():
        served = f"version {item.serving}" if item.serving else "nothing of ours yet"
        facts.append(("target", f"{item.target}: {item.phase}, serves {served}"))
    width = max(len(label) for label, _ in facts)
    click.echo("\n".join(f"{label:<{width}}  {text}" for label, text in facts))
    return 0


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


def _chain(context: click.Context, name: str, number: int) -> list[tuple[str, str]]:
    from certd import config, x509
    from certd.store import Store

    state_folder, _ = config.state_folder(config_path(context))
    store = Store.look(state_folder)
    try:
        bundle = store.lineages.bundle(name, number)
    finally:
        store.close()
    return [
        ("chain", f"{x509.shown_name(one.subject)}, issued by {x509.shown_name(one.issuer)}")
        for one in (x509.read_chain(bundle.chain_pem) if bundle.chain_pem else [])
    ]
