"""``certd account``: the accounts at CAs, looked at, changed, moved and ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from certd.cli.account_desk import CA, Desk, at, directory_of, some
from certd.cli.account_files import export, import_
from certd.cli.account_views import list_, show
from certd.cli.options import CONTEXT, config_option, say
from certd.cli.options import command as certd_command
from certd.errors import ConfigError

KEYS = {"ec-p256": "ES256", "ec-p384": "ES384", "rsa-2048": "RS256"}  # as for certificates


@config_option
@click.group("account", context_settings=CONTEXT)
def command() -> None:
    """The accounts at CAs: look at them, change, move or end them.

    CA is a name of the configuration: of a table [ca.NAME], or well known and used. Works
    beside a running daemon, which notices what has changed.
    """


@certd_command("register")
@CA
@click.option("--new", is_flag=True, help="Another account, in place of one that is over.")
def register(context: click.Context, ca: str, new: bool) -> int:
    """Make the account now, instead of with the first certificate.

    Where there is one already it is looked at, and nothing is made. --new makes one with
    another key where the CA does not take the one before any more: deactivated, revoked or
    lost. CAA accounturi records that name that one must then be changed.
    """
    with at(context, ca) as desk:
        there = desk.requests.there() and not new
        view = desk.requests.register_another() if new else desk.requests.register()
        desk.ask_again()
    say(f"{ca}: account {view.uri} {'is there already, and valid' if there else 'registered'}")
    return 0


@certd_command("update")
@CA
def update(context: click.Context, ca: str) -> int:
    """Tell the CA the contacts of the configuration, [certd] contact.

    Where the CA has changed its terms of service, or none are noted (an account taken over),
    it is noted that agree_tos is said of those that it has now; from then on, changes of
    them are told.
    """
    with at(context, ca) as desk:
        told = ", ".join(desk.config.contact) or "none"
        view = desk.requests.update()
        desk.ask_again()
    shown = ", ".join(view.contact)
    say(f"{ca}: told the contacts: {told}" + (f"; it has: {shown}" if shown else ""))
    return 0


@certd_command("rollover")
@CA
@click.option(
    "--key", type=click.Choice(list(KEYS)), default="ec-p256", help="Kind of the new key."
)
def rollover(context: click.Context, ca: str, key: str) -> int:
    """Give the account another key. The account, its URL and its orders stay.

    Killed at any point, nothing is lost: the new key is kept before the CA hears of it,
    both are tried afterwards, and the same command goes on with it. certd removes the key
    of before; copies of it are of no use any more.
    """
    from certd.x509 import type_of

    with at(context, ca) as desk:
        account = desk.requests.roll_over(KEYS[key])
        desk.ask_again()
    say(f"{ca}: account {account.uri} has another key")
    if (kind := type_of(account.key_pem)) != key:
        say(f"it is {kind}, of a roll-over that was begun before; for {key}, the same once more")
    say("copies of the database from before lack it: `certd db backup` makes another")
    return 0


@certd_command("deactivate")
@CA
@click.option("--yes", is_flag=True, help="Do not ask.")
def deactivate(context: click.Context, ca: str, yes: bool) -> int:
    """End the account at the CA, for good.

    Its certificates stay valid until they expire. It can get no others, and revoke none:
    that takes the certificates' own keys then. No other account is made in its place
    before `certd account register --new`.
    """
    with at(context, ca) as desk:
        account = desk.requests.known()
        if account.deactivated:
            say(f"{ca}: account {account.uri} is deactivated already")
            return 0
        say(f"{ca}: account {account.uri}")
        for line in _consequences(desk):
            say(f"  {line}")
        if not yes and not _confirmed():
            say("nothing was done")
            return 1
        account = desk.requests.deactivate()
    say(f"{ca}: account {account.uri} is deactivated")
    return 0


def _consequences(desk: Desk) -> Iterator[str]:
    specs = desk.config.certificates
    asking = [name for name, spec in specs.items() if desk.ca in spec.cas]
    only = [name for name in asking if specs[name].cas == (desk.ca,)]
    yield "deactivated for good; its certificates stay valid until they expire"
    if waiting := desk.store.orders.finalizing(directory_of(desk.config, desk.ca)):
        yield f"perhaps issued and not fetched yet, and lost then: {some(waiting)}"
    if only:
        yield f"not renewed any more, for they have no other CA: {some(only)}"
    if others := [name for name in asking if name not in only]:
        yield f"renewed at their other CAs: {some(others)}"


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            "nobody to ask whether this is meant", "no terminal", "--yes says that it is"
        )
    return click.confirm("Deactivate it?", default=False)


for each in (list_, show, register, update, rollover, deactivate, import_, export):
    command.add_command(each)
