"""``certd seal``: the key that the secrets in the database are sealed with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certd.cli.options import CONTEXT, config_option, config_path, say
from certd.cli.options import command as certd_command
from certd.errors import CertdError, ConfigError
from certd.references import SecretReference

if TYPE_CHECKING:
    from certd.store.sealed import Sealed

_FILE = click.Path(path_type=Path, dir_okay=False)


@config_option
@click.group("seal", context_settings=CONTEXT)
def command() -> None:
    """Seal the keys in the database; see whether they are."""


@click.command("key", context_settings=CONTEXT)
@click.argument("file", type=_FILE)
def key(file: Path) -> int:
    """Make a random sealing key, in FILE.

    A new FILE is its owner's only (mode 0600). In one that has keys the new one becomes the
    first: the first seals, all of them open. Then `certd seal rotate`.
    """
    from certd.store.keyfile import add_key

    say(f"{file}: the first key is {add_key(file)} now; keep a copy where no backup of certd's is")
    return 0


@certd_command("status")
def status(context: click.Context) -> int:
    """Show whether the database and its copies are sealed, and with which key.

    Exit status 1 when seal is configured and something in the state folder is not sealed
    with a key that is there. Changes nothing.
    """
    from certd import config as configuration
    from certd.store import sealed
    from certd.store.files import backups, database_file

    path = config_path(context)
    state, _ = configuration.state_folder(path)
    reference = configuration.seal(path)
    having: tuple[str, ...] = ()
    good = True
    if reference is None:
        say('no seal is configured: [certd] seal = { file = "/etc/certd/seal" }, say')
    else:
        try:
            having = _ids(reference)
            say(f"keys in {reference}: {', '.join(having)}; the first seals")
        except CertdError as error:
            say(f"FAILED {error}")
            good = False
    database = database_file(state)
    for file in (database, *sorted(backups(state).glob("*.db"))):
        if not file.exists():
            say(f"{file}: there is none yet")
            continue
        try:
            text, well = _told(sealed.look(file), having, file == database)
        except CertdError as error:
            text, well = str(error), False
        say(f"{file}: {text}")
        good &= well
    return int(reference is not None and not good)


@certd_command("rotate")
def rotate(context: click.Context) -> int:
    """Seal everything with the first key of [certd] seal.

    Also beside a running daemon that has that key: one whose key is a file takes it up by
    itself, one with a systemd credential must have been restarted since the key was added.
    Killed at any instant, nothing is lost, and the same command goes on. The keys after the
    first are then needed for older backups only.
    """
    from certd import config as configuration
    from certd.store import Store

    path = config_path(context)
    reference = configuration.seal(path)
    if reference is None:
        raise ConfigError(
            "[certd] has no seal",
            "so there is no key to seal with",
            'make one with `certd seal key FILE`, and write seal = { file = "FILE" }',
        )
    store = Store.open(configuration.state_folder(path)[0], reference)
    try:
        changed = store.seal_anew()
    finally:
        store.close()
    first, *others = _ids(reference)
    if not changed:
        say(f"everything is sealed with {first} already; for another key: `certd seal key FILE`")
        return 0
    say(f"everything is sealed with {first} now")
    if others:
        say(f"older backups need {', '.join(others)}; nothing else does: take them out of the file")
    return 0


def _told(found: Sealed, having: tuple[str, ...], in_use: bool) -> tuple[str, bool]:
    """What to say of a database, and whether all is well with it."""
    missing = [by for by in found.by if by not in having]
    if not found.by:
        what = f"not sealed: {found.plain} secrets in plain text"
        if found.plain == 0:
            return "there is no secret in it", True
        todo = "`certd seal rotate` seals it" if in_use else "remove it when it is not needed"
        return (f"{what}; {todo}" if having else what), False
    by = ", ".join(found.by)
    if missing:
        return f"sealed with {by}; {', '.join(missing)} is not there: put it back", False
    if found.plain or found.state != "whole":
        what = f"being sealed with {found.by[0]}: {found.sealed} secrets are, {found.plain} are not"
        return f"{what}; `certd seal rotate` goes on", False
    text = f"sealed with {by}: {found.sealed} secrets"
    if in_use and found.by[0] != having[0]:
        text += f"; `certd seal rotate` seals them with {having[0]}"
    return text, True


def _ids(reference: SecretReference) -> tuple[str, ...]:
    from certd.store.envelope import sealing_keys

    return tuple(key.id for key in sealing_keys(reference.fetch()))


for each in (key, status, rotate):
    command.add_command(each)
