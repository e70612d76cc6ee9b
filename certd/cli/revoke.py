"""``certd revoke NAME``: a version revoked at its CA, and replaced where it is in use."""

from __future__ import annotations

import sys
from collections.abc import Mapping
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
    from certd.known import Revocation, Signer, Version
    from certd.model import CertificateSpec
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

    Of a pair of keys, NAME means both certificates, NAME.rsa the second alone.
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
    store = Store.open(config.state, config.seal)
    try:
        if (spec := config.certificates.get(name)) and spec.pulled:
            why = f"it comes from {spec.cas[0]}, another certd, which has its account"
            raise ConfigError(f"{name} is not revoked here", why, f"`certd revoke {name}` there")
        wanted = {name: version_of(store, name, number)}
        other = _second(config, name) if number is None else None
        if other and (found := store.revocations.find(other, None)):
            wanted[other] = found
        for owner, (version, _) in wanted.items():
            _check(owner, version, reason, with_key=with_key)
        for owner, (version, used) in wanted.items():
            used = used and owner in config.certificates
            _tell(store, config, owner, version, used=used, reason=reason)
        say("Revoking cannot be undone.")
        if not (yes or _confirmed()):
            say("nothing is revoked")
            return 1
        versions = {owner: version for owner, (version, _) in wanted.items()}
        return _revoke(store, config, versions, reason, "key" if with_key else "account")
    finally:
        store.close()


def _second(config: Config, name: str) -> str | None:
    """The other certificate of the table of that name, where it is for a pair."""
    spec = config.certificates.get(name)
    other = spec.sibling if spec else None
    return other if other and other.startswith(f"{name}.") else None


def _check(name: str, version: Version, reason: str, *, with_key: bool) -> None:
    from certd.model import keyless
    from certd.revocation import NEVER_SEEN

    if version.certificate.not_after <= _now() and reason != "keyCompromise":
        raise CertdError(
            f"version {version.number} of {name} is not revoked",
            f"it has expired, {instant(version.certificate.not_after)}: nobody takes it",
        )
    if with_key and keyless(version.wishes):
        raise ConfigError(
            f"version {version.number} of {name} cannot be revoked with its own key",
            NEVER_SEEN,
            "leave --with-key out: the account signs",
        )


def version_of(store: Store, name: str, number: int | None) -> tuple[Version, bool]:
    """That one, or the current one, and whether it is in use.

    Raises:
        ConfigError: there is none.
    """
    found = store.revocations.find(name, number)
    if found is None:
        numbers = store.revocations.numbers(name)
        if not numbers:
            todo = "`certd status` lists what there is"
            raise ConfigError(f"no version of {name!r} was ever issued here", "", todo)
        known = ", ".join(map(str, numbers))
        raise ConfigError(f"{name} has no version {number}", f"it has {known}")
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
        say(f"It is the current one: {_instead(config.certificates[name], reason)}.")
    elif name in config.certificates:
        say("It is not the current one: nothing is got in its place.")
    else:
        say(f"[certificate.{name}] is not configured: nothing is got in its place.")


def _instead(spec: CertificateSpec, reason: str) -> str:
    where = ", ".join(spec.targets) or "no target"
    if spec.csr and reason == "keyCompromise":
        return "nothing is got in its place before you make another key and signing request (csr)"
    key = "a new key"
    if spec.csr:
        key = "the same signing request (csr)"
    elif spec.reuse_key and reason != "keyCompromise":
        key = "the same key (reuse_key)"
    return f"another, with {key}, is got at once, for {where}"


def _revoke(
    store: Store, config: Config, versions: Mapping[str, Version], reason: str, signer: Signer
) -> int:
    from certd.engine.node import Node
    from certd.failpoint import failpoint

    store.lineages.take_over(config.certificates, config.digest, config.table_digests)
    node = Node(config, store, lambda name, text: None)
    try:
        asked = [
            each
            for name, version in versions.items()
            for each in store.revocations.intend(name, version, reason, signer, _now())
        ]
        failpoint("revocation: it is kept what is to be revoked")
        if not asked:
            say("nothing to revoke: whatever has the key has expired; it is never used again")
        good = [_ask(node, one) for one in asked]
        good.append(_replace(node, {one.name for one in asked}))
    finally:
        node.stop()
    return int(not all(good))


def _ask(node: Node, asked: Revocation) -> bool:
    from certd import revocation
    from certd.ca.issuer import NoRevocation, Refused

    which = f"{asked.name}: version {asked.number}"
    try:
        reason = node.revoke(asked) if asked.revoked_at is None else asked.reason
        note = "" if reason == asked.reason else f": the CA takes no {asked.reason}"
        say(f"{which} is revoked ({reason}{note})")
        return True
    except Refused as error:
        node.store.revocations.drop(asked)
        if isinstance(error, NoRevocation) and asked.final:
            say(f"{which}: its key is given up; {error.what}: {error.why}")
            return True
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
