"""``certd revoke NAME``: a version revoked at its CA, and replaced where it is in use."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, instant, log_to_stderr, say
from certd.errors import CertdError, ConfigError
from certd.revocation import REASONS

if TYPE_CHECKING:
    from certd.config import Config
    from certd.engine.node import Node
    from certd.model import Revocation, Signer, Version
    from certd.store import Store


@certd_command("revoke")
@click.argument("name")
@click.option(
    "--reason",
    type=click.Choice(list(REASONS)),
    default="unspecified",
    show_default=True,
    help="What the CA publishes as the reason.",
)
@click.option(
    "--with-key",
    is_flag=True,
    help="Sign with the certificate's own key: where the account is lost. Let's Encrypt takes "
    "that for keyCompromise, whatever the reason.",
)
@click.option("--version", "number", type=int, help="An earlier version; else the current one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    context: click.Context, name: str, reason: str, with_key: bool, number: int | None, yes: bool
) -> int:
    """Revoke a version of the certificate NAME at the CA that issued it.

    Where it is the current one, another is got and deployed at once. To be without a moment
    in which servers have a revoked one: `certd renew --force NAME` first, and then revoke the
    --version of before. After keyCompromise the key is never used again, and whatever else
    was issued for it is revoked and replaced too.

    A CA that cannot be reached is asked again by the daemon or the next `certd renew`. Exit
    status 1 when it is not revoked, or could not be replaced.
    """
    import logging

    log_to_stderr(logging.CRITICAL)
    from certd import config as configuration
    from certd.store import Store

    config = configuration.load(config_path(context))
    store = Store.open(config.state)
    try:
        version, used = _version(store, name, number)
        used = used and name in config.certificates
        if version.certificate.not_after <= _now() and reason != "keyCompromise":
            raise CertdError(
                f"version {version.number} of {name} is not revoked",
                f"it has expired, {instant(version.certificate.not_after)}: nobody takes it",
            )
        _tell(store, config, name, version, used=used, reason=reason)
        if not (yes or _confirmed()):
            say("nothing is revoked")
            return 1
        return _revoke(store, config, name, version, reason, "key" if with_key else "account")
    finally:
        store.close()


def _version(store: Store, name: str, number: int | None) -> tuple[Version, bool]:
    found = store.revocations.find(name, number)
    if found is None:
        numbers = store.revocations.numbers(name)
        if not numbers:
            raise ConfigError(f"no version of {name!r} was ever issued here")
        known = ", ".join(map(str, numbers))
        raise ConfigError(f"{name} has no version {number}", f"there are {known}")
    return found


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            "nothing is revoked",
            "it cannot be undone, and nobody is there to be asked",
            "say --yes if it is meant",
        )
    return click.confirm("Revoke?")


def _tell(
    store: Store, config: Config, name: str, version: Version, *, used: bool, reason: str
) -> None:
    """What will happen."""
    facts = version.certificate
    names = ", ".join(map(str, facts.identifiers[:5])) + (
        " …" if len(facts.identifiers) > 5 else ""
    )
    say(
        f"version {version.number} of {name}: {names}; serial {facts.serial}, valid until "
        f"{instant(facts.not_after)}, from {version.ca}"
    )
    if reason == "keyCompromise":
        same = store.revocations.same_key(facts.spki_sha256, _now())
        others = [f"{owner} {one.number}" for owner, one in same if one.certificate != facts]
        also = f", and so {', '.join(others)} with the same key" if others else ""
        say(f"Its private key is never used again{also}.")
    if used:
        where = ", ".join(config.certificates[name].targets) or "no target"
        say(f"It is the current one: another, with a new key, is got at once, for {where}.")
    elif name in config.certificates:
        say("It is not the current one: nothing is got in its place.")
    else:
        say(f"[certificate.{name}] is not configured: nothing is got in its place.")
    say("Revoking cannot be undone.")


def _revoke(
    store: Store, config: Config, name: str, version: Version, reason: str, signer: Signer
) -> int:
    from certd.engine.node import Node
    from certd.failpoint import failpoint

    store.lineages.take_over(config.certificates, config.digest, config.table_digests)
    node = Node(config, store, lambda name, text: None)
    try:
        asked = store.revocations.intend(name, version, reason, signer, _now())
        failpoint("revocation: it is kept what is to be revoked")
        good = [_ask(node, one) for one in asked]
        good.append(_replace(node, {one.name for one in asked}))
    finally:
        node.stop()
    return int(not all(good))


def _ask(node: Node, asked: Revocation) -> bool:
    from certd import revocation

    which = f"{asked.name}: version {asked.number}"
    try:
        reason = node.revoke(asked) if asked.revoked_at is None else asked.reason
        note = "" if reason == asked.reason else f": the CA takes no {asked.reason}"
        say(f"{which} is revoked ({reason}{note})")
        return True
    except revocation.Refused as error:
        node.store.revocations.drop(asked)
        say(f"{which}: FAILED {error}", err=True)
    except CertdError as error:
        again = revocation.postpone(asked, error, node.store, 0.0, _now())
        say(
            f"{which}: FAILED {error}; the daemon or `certd renew` asks again, from "
            f"{instant(again)} on; `certd revoke {asked.name}` at once",
            err=True,
        )
    return False


def _replace(node: Node, names: set[str]) -> bool:
    """Get another for each whose current version must be replaced; whether all went well."""
    from certd.engine import oneshot

    wanted = [
        name
        for name in sorted(names & node.config.certificates.keys())
        if (lineage := node.store.lineages.get(name)).forced
        or ((revoked := lineage.revocation) and revoked.final)
    ]
    if not wanted:
        return True
    outcomes = oneshot.renew(node, wanted, named=True, force=False)
    for outcome in outcomes:
        mark = "FAILED " if outcome.kind == "failed" else ""
        say(f"{outcome.name}: {mark}{outcome.text}")
    return all(outcome.kind == "done" for outcome in outcomes)


def _now() -> datetime:
    return datetime.now(UTC)
