"""``certd ca``: certd's own CA: its root made, shown, and put into trust stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certd.cli.options import CONTEXT, config_option, config_path, say
from certd.cli.options import command as certd_command
from certd.errors import CertdError, ConfigError

if TYPE_CHECKING:
    from certd.config import Config
    from certd.trust import Root, Step

LONGEST_LABEL = 32  # characters: a common name has 64, and more stands behind it

_ca = click.option(
    "--ca", "name", default="local", help="The CA's name, where it is not local.", metavar="NAME"
)
_FILE = click.Path(path_type=Path, dir_okay=False)


@config_option
@click.group("ca", context_settings=CONTEXT)
def command() -> None:
    """Make, show and trust the root of certd's own CA."""


@certd_command("init")
@_ca
@click.option(
    "--permit",
    "permitted",
    multiple=True,
    metavar="NAME|NETWORK",
    help="Limit the root to this name and all below it, or this network; several times for more.",
)
@click.option("--label", help="What it is called in trust stores; else 'certd NAME'.")
@click.option("--replace", is_flag=True, help="Make another root beside the one that is there.")
def init(
    context: click.Context, name: str, permitted: tuple[str, ...], label: str | None, replace: bool
) -> int:
    """Make a root and an intermediate.

    Their keys stay in the database. Clients are to trust the root: `certd ca trust`. What
    --permit names is written into the root, and can only be changed by another root; with
    names alone it is for no address, with networks alone for no name. A root that is there
    is not replaced without --replace: what it has signed stays valid until it expires, and
    the next renewal is signed by the new one, which clients have to trust before.
    """
    from certd.ca import local
    from certd.config import identifiers
    from certd.store import Store

    config, now = _config(context, name), datetime.now(UTC)
    trees = tuple(dict.fromkeys(identifiers.subtree(text) for text in permitted))
    store = Store.open(config.state, config.seal)
    try:
        there = store.authorities.newest(name, "root")
        if there is not None and not replace:
            raise CertdError(
                f"{name} has a root already",
                f"it was made on {there.not_before:%F}",
                "`certd ca root` shows it; --replace makes another beside it",
            )
        if not local.found(name, _label(label, name), trees, store.authorities, there, now):
            raise CertdError(f"{name} has a root by now", "another command was quicker")
        users = [spec.name for spec in config.certificates.values() if name in spec.cas]
        store.parks.lift(name, users, now)
        made = store.authorities.newest(name, "root")
        assert made is not None  # noqa: S101 - it was kept just now
        for line in _facts(made.certificate_pem):
            say(line)
    finally:
        store.close()
    named = _named(name)
    say(f"next: `certd ca trust{named}` on this machine; for others, `certd ca root{named}`")
    return 0


@certd_command("root")
@_ca
@click.option("-o", "--output", type=_FILE, help="Write it to this file, not to the terminal.")
@click.option("--all", "every", is_flag=True, help="Those that were replaced too, newest first.")
@click.option("--fingerprint", metavar="SHA-256", help="The one whose fingerprint begins so.")
def root(
    context: click.Context, name: str, output: Path | None, every: bool, fingerprint: str | None
) -> int:
    """Print the root as PEM, for clients that are to trust it.

    Its facts go to stderr, the fingerprint to compare among them: `certd ca root >root.pem`
    is a good file. It is no secret. One that was replaced stays trusted where it was: with
    its --fingerprint in a file, `certd ca trust --uninstall --root FILE` ends that.
    """
    from certd.x509 import fingerprint as of

    found = _roots(_config(context, name), name)
    if fingerprint is not None:
        wanted = fingerprint.replace(":", "").lower()
        found = [one for one in found if wanted and of(one).startswith(wanted)]
        if not found:
            todo = f"`certd ca root --all{_named(name)}` shows them"
            raise CertdError(f"no root of {name} has a fingerprint that begins so", "", todo)
    elif not every:
        del found[1:]
    pem = "".join(found)
    if output is None:
        click.echo(pem, nl=False)
    else:
        _write(output, pem)
        say(f"written to {output}", err=True)
    for line in (line for one in found for line in _facts(one)):
        say(line, err=True)
    return 0


@certd_command("trust")
@_ca
@click.option("--uninstall", is_flag=True, help="Take it out again.")
@click.option(
    "--only",
    type=click.Choice(["system", "nss"]),
    help="The system's store only, or the browsers' (NSS) only.",
)
@click.option("--root", "file", type=_FILE, help="The root in this PEM file, not the database's.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done; do nothing.")
def trust(
    context: click.Context,
    name: str,
    uninstall: bool,
    only: str | None,
    file: Path | None,
    dry_run: bool,
) -> int:
    """Let this machine trust the root.

    Puts it into the system's trust store, as root (update-ca-certificates on Debian,
    update-ca-trust on RHEL), and into those of Firefox and Chromium in your home (certutil);
    under sudo, in the home of who called it. Says each thing that it does. A browser that
    was never started has no store yet. Programs that run already may have to be restarted.
    """
    from certd import trust as stores

    wanted = _of_file(file) if file else _of_pem(_roots(_config(context, name), name)[0])
    steps: list[Step] = []
    if only != "nss":
        steps += stores.system(wanted, install=not uninstall)
    if only != "system":
        whose = stores.person(os.environ)
        found = list(stores.browsers(wanted, whose, install=not uninstall))
        if not found:
            say(f"no browser has a trust store below {whose.home}")
        steps += found
    failed, changed = 0, False
    for step in steps:
        say(f"would {step.text}" if dry_run else step.text)
        try:
            if not dry_run:
                changed |= step.act()
        except CertdError as error:
            say(f"FAILED {error}")
            failed += 1
    if uninstall and not (changed or failed or dry_run):
        say(f"{wanted.name} was not there, or was put there by something else than certd")
    elif steps and not failed and not dry_run:
        say(f"{wanted.name} is {'not trusted any more' if uninstall else 'trusted'}")
    return int(bool(failed))


def _config(context: click.Context, name: str) -> Config:
    """
    Raises:
        ConfigError: this CA is none of certd's own.
    """
    from certd import config as configuration

    config = configuration.load(config_path(context))
    own = sorted({"local", *(ca for ca, settings in config.cas.items() if settings.local)})
    if name in config.cas and not config.cas[name].local:
        raise ConfigError(
            f"{name} is an ACME server", "it has its own root", f"certd's own: {', '.join(own)}"
        )
    if name not in own:
        raise ConfigError(
            f"no CA of certd's own is named {name!r}",
            f"there is {', '.join(own)}",
            f'correct the name, or add a table [ca.{name}] with type = "local"',
        )
    return config


def _roots(config: Config, name: str) -> list[str]:
    """In PEM, the newest first, which signs.

    Raises:
        CertdError: there is none yet.
    """
    from certd.store import Store

    store = Store.look(config.state)
    try:
        found = [pem for pem, _ in store.authorities.roots(name)]
    finally:
        store.close()
    if not found:
        raise CertdError(f"{name} has no root yet", "", f"`certd ca init{_named(name)}` makes it")
    return found


def _named(name: str) -> str:
    return "" if name == "local" else f" --ca {name}"


def _facts(pem: str) -> Iterator[str]:
    from certd import x509

    facts = x509.facts(x509.read_chain(pem)[0])
    permits = x509.permits(pem)
    yield f"{facts.issuer}, valid until {facts.not_after:%F}"
    yield f"SHA-256 {facts.fingerprint}"
    if permits:
        yield f"for {', '.join(permits)}, and nothing else"
    else:
        yield "for every name and address: who trusts it trusts whoever has the database"


def _of_file(file: Path) -> Root:
    try:
        return _of_pem(file.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise CertdError(f"cannot read {file}", error.strerror or str(error)) from error
    except CertdError as error:
        todo = "name a file that `certd ca root -o FILE` has written"
        raise CertdError(f"{file} is no root", error.why, todo) from error


def _of_pem(pem: str) -> Root:
    from certd import x509
    from certd.trust import Root

    facts = x509.facts(x509.read_chain(pem)[0])
    return Root(facts.issuer.removeprefix("CN="), facts.fingerprint[:16], pem)


def _label(label: str | None, name: str) -> str:
    label = f"certd {name}"[:LONGEST_LABEL] if label is None else label
    if not label.strip() or not label.isprintable() or len(label) > LONGEST_LABEL:
        raise ConfigError(f"{label!r} is no label", f"it is 1 to {LONGEST_LABEL} characters")
    return label


def _write(path: Path, text: str) -> None:
    try:
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise CertdError(f"{path} was not written", "it is there", "choose another name")
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise CertdError(f"{path} was not written", error.strerror or str(error)) from error


for each in (init, root, trust):
    command.add_command(each)
