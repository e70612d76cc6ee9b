"""``certd account import`` and ``export``: account keys in files, other clients' and for them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

from certd.cli.account_desk import CA, at, directory_of, some
from certd.cli.handing_out import refuse_terminal, write
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, say
from certd.errors import ConfigError

LARGEST = 64 * 1024  # bytes; a key of 4096 bits takes 3.3 KiB
# What clients call theirs: certbot, acme.sh, dehydrated.
NAMES = ("private_key.json", "account.key", "account_key.pem")


@certd_command("import")
@CA
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Put it in the place of another account.")
def import_(context: click.Context, ca: str, path: Path, replace: bool) -> int:
    """Take over the account of another ACME client.

    PATH is the file with its private key, PEM or JWK, or the folder that it is in:
    certbot's private_key.json, acme.sh's account.key, lego's and Caddy's *.key,
    dehydrated's account_key.pem. `-` is standard input. The CA is asked which account that
    is; nothing is made there.
    """
    from certd.ca.keys import read_key

    try:
        key = read_key(read(path))
    except ConfigError as error:
        raise ConfigError(f"cannot take over {path}", str(error)) from None
    with at(context, ca) as desk:
        if replace and (waiting := desk.store.orders.finalizing(directory_of(desk.config, ca))):
            raise ConfigError(
                f"{ca} may have issued what is not fetched yet: {some(waiting)}",
                "only the account of before can fetch it",
                f"`certd renew {' '.join(waiting[:5])}` first",
            )
        account, before = desk.requests.adopt(key, replace=replace)
        desk.ask_again()
    say(f"{ca}: account {account.uri}" + (f" in place of {before.uri}" if before else ""))
    return 0


@certd_command("export")
@CA
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["pem", "jwk"]),
    default="pem",
    help="PEM (PKCS#8), or JWK: certbot's private_key.json.",
)
def export(context: click.Context, ca: str, path: Path, form: str) -> int:
    """Write the account's private key to PATH, a new file that only its owner can read.

    Whoever has it can act for the account. `-` is standard output, if that is no terminal.
    CA may be the URL of a directory that the configuration does not have any more.
    """
    from certd import config as configuration
    from certd.ca.keys import exported
    from certd.store import Store

    config = configuration.load(config_path(context))
    directory = ca if ca.startswith("https://") else directory_of(config, ca)
    store = Store.look(config.state, config.seal)
    try:
        account = store.accounts.account(directory)
    finally:
        store.close()
    if account is None:
        raise ConfigError(
            f"there is no account at {ca}", "", "`certd account list` shows those that there are"
        )
    if str(path) == "-":
        refuse_terminal("a private key")
    write(path, exported(account, form).encode())
    if account.next_key_pem:
        what = "its key is being rolled over, and this may be the one of before"
        say(f"{what}: `certd account rollover {ca}` ends that", err=True)
    if str(path) != "-":
        say(f"{path}: the key of {account.uri or 'an account that is not registered yet'}")
    return 0


def read(path: Path) -> str:
    """The text of the file, or of the one in this folder that has the key; ``-``: of stdin.

    Raises:
        ConfigError: there is none.
    """
    if str(path) == "-":
        return sys.stdin.buffer.read(LARGEST).decode("utf-8", "replace")
    try:
        if path.is_dir():
            path = _in_folder(path)
        # Without waiting: of a pipe or a device nobody knows whether it ends.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{path} is no file", "", "name the file with the private key")
            return file.read(LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}",
            error.strerror or str(error),
            "name the file with the private key, and run this as a user who may read it",
        ) from error


def _in_folder(folder: Path) -> Path:
    keys = [folder / name for name in NAMES if (folder / name).is_file()]
    keys = keys or sorted(folder.glob("*.key"))
    if len(keys) != 1:
        found = ", ".join(one.name for one in keys) or "none of " + ", ".join([*NAMES, "*.key"])
        raise ConfigError(
            f"{folder} is not the folder of one account",
            f"it has {found}",
            "name the file with the private key",
        )
    return keys[0]
