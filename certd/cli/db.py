"""``certd db``: the database looked at, copied, put back, and made again from the targets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certd.cli.options import CONTEXT, config_option, config_path, say
from certd.cli.options import command as certd_command

if TYPE_CHECKING:
    from certd.config import Config
    from certd.store import Store

_FILE = click.Path(path_type=Path, dir_okay=False)


@config_option
@click.group("db", context_settings=CONTEXT)
def command() -> None:
    """Check, back up or restore the database."""


@certd_command("check")
@click.argument("file", type=_FILE, required=False)
def check(context: click.Context, file: Path | None) -> int:
    """Look whether the database is whole.

    Or FILE, a copy of one. SQLite's own check, then certd's: every current version is
    there, with a key that is its leaf's and a readable chain; one order a certificate; what
    targets have is known. Exit status 1 when something is wrong; each line says what, and
    what to do. Changes nothing.
    """
    from certd import config as configuration
    from certd.store.inspection import inspect

    path = file or _database(context)
    found = inspect(path, configuration.seal(config_path(context)))
    for finding in found.findings:
        say(f"{path}: {finding}")
    if not found.findings:
        say(
            f"{path}: good: certificates {found.certificates}, versions {found.versions}, "
            f"orders under way {found.orders}"
        )
    return int(bool(found.findings))


@certd_command("backup")
@click.argument("file", type=_FILE, required=False)
def backup(context: click.Context, file: Path | None) -> int:
    """Copy the database, and print the copy's name.

    Also while the daemon runs. Without FILE it is named after the time, in the folder
    backups of the state folder. A copy that has the name already is replaced. It holds
    every private key, sealed if the database is: only its owner may read it.
    """
    from certd.store.backup import back_up

    click.echo(str(back_up(_database(context).parent, file, datetime.now(UTC))))
    return 0


@certd_command("restore")
@click.argument("file", type=_FILE)
def restore(context: click.Context, file: Path) -> int:
    """Put FILE, a copy, in the database's place.

    The one before is kept under another name. Refuses while a certd works on the state
    folder, and a FILE that is not whole. What the targets hold and the copy does not know
    yet is then taken back in, so that nothing is issued again. Nothing is asked of any CA.
    """
    from certd import config as configuration
    from certd.store.restoring import restore as put_back

    config = configuration.load(config_path(context))
    aside = put_back(config.state, file, datetime.now(UTC), config.seal)
    say(f"{file} is the database now" + (f"; the one before is {aside}" if aside else ""))
    _adopt(config, list(config.certificates))
    return 0


@certd_command("adopt")
@click.argument("names", nargs=-1, metavar="[NAME…]")
def adopt(context: click.Context, names: tuple[str, ...]) -> int:
    """Take back in what the targets hold.

    For all certificates or the named ones, when the database is lost: where a target has a
    pair for the names that are wanted, newer than what the database knows, it becomes the
    current version. Nothing is issued, deployed or asked of any CA. The daemon and `certd
    renew` do the same by themselves before they order anything. Exit status 1 when a
    certificate is left without a version.
    """
    from certd import config as configuration

    config = configuration.load(config_path(context))
    picked = config.chosen(names)
    left = _adopt(config, picked)
    for name in picked:
        if text := left.get(name):
            say(f"{name}: {text}")
    if not picked:
        say("no certificate is configured")
    return int(any(text.startswith("FAILED") for text in left.values()))


def _adopt(config: Config, names: list[str]) -> Mapping[str, str]:
    """Say what is taken in; returns what there is to say of the others."""
    from certd.adoption import adopt_all
    from certd.store import Store

    store = Store.open(config.state, config.seal)
    try:
        store.lineages.take_over(config.certificates, config.digest, config.table_digests)
        specs = {name: config.certificates[name] for name in names}
        taken = adopt_all(specs, config.targets, store, _say, datetime.now(UTC))
        return {
            name: _left(store, name, busy=name not in taken)
            for name in names
            if taken.get(name) is None
        }
    finally:
        store.close()


def _left(store: Store, name: str, *, busy: bool) -> str:
    current = store.lineages.get(name).current
    if busy:
        return "another certd works on it just now, and looks itself"
    if current is None:
        return "FAILED no target has it: `certd renew` or the daemon gets one from the CA"
    return f"no target has anything newer than version {current.number}"


def _database(context: click.Context) -> Path:
    from certd import config as configuration
    from certd.store.files import database_file

    state, _ = configuration.state_folder(config_path(context))
    return database_file(state)


def _say(name: str, text: str) -> None:
    say(f"{name}: {text}")


for each in (check, backup, restore, adopt):
    command.add_command(each)
