"""``certd show NAME``: the facts of one certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, instant
from certd.cli.overview import overview
from certd.cli.troubles import troubles
from certd.config import state_folder
from certd.errors import CertdError, ConfigError
from certd.known import Version
from certd.model import SERVER, Certificate, keyless
from certd.store.glance import chain, crl

if TYPE_CHECKING:
    from certd.standing import Entry
    from certd.x509 import Roots


@certd_command("show")
@click.argument("name")
@click.option(
    "--pins",
    is_flag=True,
    help="Only the pins of the current and the next key, and their TLSA records (DANE), as lines "
    "of a zone file.",
)
def command(context: click.Context, name: str, pins: bool) -> int:
    """Show the current version of a certificate: leaf, chain, SPKI pin, targets."""
    path = config_path(context)
    found = overview(path, name)
    if not found.entries:
        known = ", ".join(entry.spec.name for entry in overview(path).entries[:20]) or "none"
        raise ConfigError(f"no certificate is named {name!r}", f"configured: {known}")
    [entry] = found.entries
    if pins:
        click.echo("\n".join(_pins(path, entry)))
        return 0
    spec, lineage = entry.spec, entry.lineage
    facts = [("name", name), ("state", entry.state)]
    facts.append(("names", ", ".join(item.value for item in spec.identifiers)))
    if spec.usages != SERVER:
        facts.append(("usage", ", ".join(spec.usages)))
    if lineage.current is None:
        facts.append(("certificate", "none yet: `certd renew` gets it"))
    else:
        current = lineage.current
        facts += [("version", str(current.number)), ("CA", current.ca), ("key", _key(current))]
        if wished := spec.profile or current.profile:
            other = f" (configured: {wished})" if wished != current.profile else ""
            facts.append(("profile", f"{current.profile or 'none'}{other}"))
        facts += _leaf(current.certificate)
        facts += _chain(path, name, current.number, current.ca)
        facts += _crl(path, name)
    if spec.backup_key:
        made = lineage.next_key
        text = f'pin-sha256="{made.spki_sha256}", {made.key_type}' if made else "none yet"
        facts.append(("next key", text))
    for one in lineage.revocations:
        when = f", {instant(one.revoked_at)}" if one.revoked_at else ""
        facts.append(("revoked", f"version {one.number} {one}{when}"))
    for item in entry.targets():
        served = f"version {item.serving}" if item.serving else "nothing of ours yet"
        facts.append(("target", f"{item.target}: {item.phase}, serves {served}"))
    width = max(len(label) for label, _ in facts)
    click.echo("\n".join(f"{label:<{width}}  {text}" for label, text in facts))
    for text in troubles(found):
        click.echo(text)
    return 0


def _pins(path: Path, entry: Entry) -> Iterator[str]:
    """Of the other certificate of its pair too: one endpoint serves both."""
    from certd import config as configuration
    from certd import x509
    from certd.cli.pins import HTTPS, Pin, zone_lines

    config = configuration.load(path)
    spec = config.certificates[entry.spec.name]
    entries = (entry, *(overview(path, spec.sibling).entries if spec.sibling else ()))
    keys = list[Pin]()
    issuer, last = None, None
    for each in entries:
        current, coming, name = each.lineage.current, each.lineage.next_key, each.spec.name
        if current is not None:
            keys.append(Pin(current.certificate.spki_sha256, f"{name}, key of now"))
            pem = chain(state_folder(path)[0], name, current.number)
            for one in x509.read_chain(pem)[:1] if pem else []:
                issuer = Pin(x509.facts(one).spki_sha256, "the CA's key that has signed it")
        if coming is not None and each.spec.backup_key:
            keys.append(Pin(coming.spki_sha256, f"{name}, key of the next renewal"))
        elif not each.spec.reuse_key and not each.spec.csr:
            last = name
    if not keys:
        raise CertdError(f"{spec.name} has no key yet", "", f"`certd renew {spec.name}` makes it")
    ports = {
        endpoint.port
        for name in spec.targets
        if name in config.targets
        for endpoint in config.targets[name].verify
    }
    yield from zone_lines(spec.identifiers, sorted(ports) or [HTTPS], keys, issuer)
    if last:
        yield f"; the next renewal has a key that nobody knows yet: set backup_key for {last}"


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


def _chain(path: Path, name: str, number: int, ca: str) -> list[tuple[str, str]]:
    from certd import x509

    pem = chain(state_folder(path)[0], name, number)
    lines = [
        ("chain", f"{x509.shown_name(one.subject)}, issued by {x509.shown_name(one.issuer)}")
        for one in (x509.read_chain(pem) if pem else [])
    ]
    if pem:
        known = x509.root_of(pem, _roots(path, ca)) is not None
        lines.append(("root", f"{x509.ends_at(pem)}, {'' if known else 'not '}known here"))
    return lines


def _roots(path: Path, ca: str) -> Roots:
    """This machine's, and those of the CA's table, if the file can be read."""
    from certd import config as configuration
    from certd.ca.roots import known_roots

    try:
        settings = configuration.load(path).cas.get(ca)
        return known_roots(settings.roots if settings else None)
    except ConfigError:
        return known_roots()


def _crl(path: Path, name: str) -> list[tuple[str, str]]:
    found = crl(state_folder(path)[0], name)
    if found is None:
        return []
    url, look_at, failure = found
    return [("CRL", f"{url}, {failure or 'good'}, next look {instant(look_at)}")]
