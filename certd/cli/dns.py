"""``certd dns``: a provider tried at the operator's own zone, and records that stay."""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from certd.cli.options import CONTEXT, config_option, config_path, count, say
from certd.cli.options import command as certd_command
from certd.errors import CertdError, ChallengeError, ConfigError, ProviderError

if TYPE_CHECKING:
    from certd.ca.client import Client
    from certd.config import Config, DNSSettings
    from certd.contract import Check, Trial
    from certd.engine.zones import Zones
    from certd.model import TxtRecord
    from certd.store import Store


PATIENCE = 30.0  # seconds for one change: somebody waits


@config_option
@click.group("dns", context_settings=CONTEXT)
def command() -> None:
    """Try a DNS provider, and see to records that stay."""


@certd_command("test")
@click.argument("table", metavar="PROVIDER")
@click.argument("zone")
@click.option(
    "--wrong-credential",
    is_flag=True,
    help="Also try a wrong secret, once. Some services lock an account out after failed logins, "
    "or alert its owner.",
)
def test(context: click.Context, table: str, zone: str, wrong_credential: bool) -> int:
    """Try the account of [dns.PROVIDER] at one of its zones.

    Writes records at a name in ZONE that nobody uses, looks for them at the zone's name servers,
    and removes them again: whatever a certificate will need. No CA is asked for anything.
    """
    from certd import config as configuration
    from certd import contract
    from certd.impostor import impostor

    config = configuration.load(config_path(context))
    account, zone = _chosen(config, table, zone)
    wrong = replace(account, plugin=impostor(account.plugin)) if wrong_credential else None
    failed = 0
    with _zones(config) as (zones, store):
        live = Live(zones, store, config, account)
        trial = _trial(live, zones, zone, config, account)
        checks = contract.checks(account.plugin)
        if wrong is not None:
            checks.append(_refusal(Live(zones, store, config, wrong)))
        for check in checks:
            try:
                check(trial)
                say(f"good  {check.__doc__}")
            except (contract.Broken, CertdError) as error:
                failed += 1
                say(f"BAD   {check.__doc__}: {error}")
                if check is contract.one_value:
                    break  # so would the others
    if failed:
        say(f"[dns.{table}] cannot be relied on for {zone}: {count(failed, 'check')} failed")
        return 1
    say(f"[dns.{table}] can be relied on for {zone}")
    return 0


def _chosen(config: Config, table: str, zone: str) -> tuple[DNSSettings, str]:
    """The account, and the zone as DNS writes it."""
    from certd.config.identifiers import identifier

    account = config.dns.get(table)
    if account is None:
        known = ", ".join(sorted(config.dns)) or "none"
        raise ConfigError(f"there is no table [dns.{table}]", f"configured: {known}")
    wanted = identifier(zone)
    zone = wanted.value
    if wanted.type != "dns" or zone.startswith("*."):
        raise ConfigError(f"{zone} is no zone", "", "name a zone, such as example.com")
    return account, zone


def _trial(live: Live, zones: Zones, zone: str, config: Config, account: DNSSettings) -> Trial:
    """At a name in the zone that nobody uses."""
    from certd import contract

    name = f"_acme-challenge.certd-test-{secrets.token_hex(4)}.{zone}"
    if not account.may_touch(name):
        bound = ", ".join(account.zones)
        raise ConfigError(f"[dns.{account.name}] is bound to {bound}", "", "name one of these")
    names = contract.names_of(account.plugin, [name])
    if not names:
        raise ConfigError(f"[dns.{account.name}] can write no name", "", "give it one")
    name = names[0]
    found, cut = zones.place(name, account, config).result()
    if cut != zone and names_any(account):
        say(f"note: DNS knows no zone {zone}: it is in the zone {cut}")
    if account.propagation == "wait":
        say('note: propagation = "wait": the name servers are not asked what they have')
    else:
        say(f"trying {name}; its name servers have {account.timeout:g} s each time (timeout)")
    patience = account.timeout + account.settle
    return contract.Trial(live, found.zone, name, live.values, account.ttl, patience)


def _refusal(wrong: Live) -> Check:
    """One failed login, and no more: nothing is removed with it."""
    from certd.contract import FIRST
    from certd.impostor import wrong_credential

    def check(trial: Trial) -> None:
        with trial.clean(FIRST):
            wrong_credential(wrong.add_txt, trial.record(FIRST))

    check.__doc__ = wrong_credential.__doc__
    return check


class Live:
    """A provider as the core calls it: in turn, within its rate, and again where that helps."""

    def __init__(self, zones: Zones, store: Store, config: Config, account: DNSSettings) -> None:
        self._zones = zones
        # Should this be killed, a later certd removes what it has written.
        self._records = store.records.apart("test ")
        self._config = config
        self._account = account
        self._patience = min(PATIENCE, account.timeout)
        self._added: dict[str, set[str]] = defaultdict(set)
        self.exclusive = getattr(account.plugin, "exclusive", "name")
        self.most_values = getattr(account.plugin, "most_values", None)
        self.removes = getattr(account.plugin, "removes", True)
        self.names = getattr(account.plugin, "names", None)

    def add_txt(self, record: TxtRecord) -> None:
        from certd.contract import NOWHERE

        account = self._account
        self._records.publish(account.name, account.name, record, datetime.now(UTC))
        try:
            self._zones.change("add", account, record, self._patience).result()
        except ProviderError:
            if record.zone == NOWHERE:  # or every certd would try to remove it from there
                self._records.give_up_one(account.name, account.name, record)
                self._records.withdraw(account.name, record)
            raise
        self._added[record.name].add(record.value)

    def remove_txt(self, record: TxtRecord) -> None:
        account = self._account
        self._records.give_up_one(account.name, account.name, record)
        self._zones.change("remove", account, record, self._patience).result()
        self._records.withdraw(account.name, record)
        self._added[record.name].discard(record.value)

    def values(self, name: str) -> Collection[str]:
        """What enough of the zone's name servers have; while they differ, what each has."""
        from certd.challenges.view import vantage

        if self._account.propagation == "wait":
            return self._added[name]
        found = self._zones.values(name, vantage(self._config, self._account)).result()
        told = {
            server: None if values is None else sorted(values) for server, values in found.items()
        }
        needed = len(told) if self._account.propagation == "all" else len(told) // 2 + 1
        for values in told.values():
            if values is not None and list(told.values()).count(values) >= needed:
                return values
        return [f"{server} {_what(values)}" for server, values in told.items()]


def names_any(account: DNSSettings) -> bool:
    """Whether it is free to write any name in its zones."""
    return not callable(getattr(account.plugin, "names", None))


def _what(values: Collection[str] | None) -> str:
    return "does not answer" if values is None else f"has {', '.join(values) or 'nothing'}"


@certd_command("persist")
@click.argument("name")
@click.option("--ca", "ca_name", help="One of the certificate's CAs, where it has several.")
@click.option("--issuer", help="The name that the CA goes by, where its directory tells none.")
def persist(context: click.Context, name: str, ca_name: str | None, issuer: str | None) -> int:
    """Print the records for dns-persist-01, and look whether they are published.

    With such a record in DNS, the CA certifies a certificate's names to certd's account for as
    long as it stays there: nothing needs to be changed at a renewal. NAME is a certificate.
    Needs an account at the CA, which is made if there is none.
    """
    from certd import config as configuration

    config = configuration.load(config_path(context))
    spec = config.certificates.get(name)
    if spec is None:
        known = ", ".join(sorted(config.certificates)[:20]) or "none"
        raise ConfigError(f"no certificate is named {name}", f"configured: {known}")
    ca = ca_name or spec.cas[0]
    if ca not in spec.cas:
        raise ConfigError(f"{name} is not of {ca}", f"its CAs are {', '.join(spec.cas)}")
    if config.cas[ca].local:
        raise ConfigError(f"{ca} is a CA of certd's own", "it asks for no records")
    hosts = sorted({one.value.removeprefix("*.") for one in spec.identifiers if one.type == "dns"})
    if not hosts:
        raise ConfigError(f"{name} is for addresses only", "they have no records in DNS")
    from certd.challenges.dns01 import lasting_name, lasting_value

    with _zones(config) as (zones, store):
        client = _client(config, store, ca)
        account = client.account.registered().uri or ""
        issuers = (issuer,) if issuer else client.caa_identities() or ()
        if not issuers:
            what = f"{ca} does not say by which name it goes"
            raise ConfigError(what, "its directory has no caaIdentities", "name it by --issuer")
        wild = {one.value.removeprefix("*.") for one in spec.identifiers if "*" in one.value}
        missing = 0
        for host in hosts:
            value = lasting_value(issuers[0], account, wildcard=host in wild)
            say(f'{lasting_name(host)}. IN TXT "{value}"')
            try:
                zones.lasting(
                    name, host, account, issuers, wildcard=host in wild, config=config
                ).result()
                say("  published")
            except ChallengeError as error:
                missing += 1
                say(f"  not published: {error.why}")
    if missing:
        say(f"publish {count(missing, 'record')}, and call this again")
    return 1 if missing else 0


def _client(config: Config, store: Store, ca: str) -> Client:
    from certd.ca.client import Client
    from certd.ca.clients import Clients

    client = Clients(config.cas, store.accounts, config.contact)(ca)
    assert isinstance(client, Client)  # noqa: S101 - it is not one of our own
    return client


@contextlib.contextmanager
def _zones(config: Config) -> Iterator[tuple[Zones, Store]]:
    from certd.engine.zones import Zones
    from certd.store import Store

    store = Store.open(config.state, config.seal)
    zones = Zones(config, store, lambda *_: None, lambda _: None, lambda: datetime.now(UTC))
    try:
        yield zones, store
    finally:
        zones.stop()
        store.close()


command.add_command(test)
command.add_command(persist)
