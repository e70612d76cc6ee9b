"""``certd export NAME``: a version in the format that a program reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certd.cli.handing_out import KEY_MODE, PUBLIC_MODE, refuse_terminal, write
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, say
from certd.cli.revoke import version_of
from certd.errors import CertdError, ConfigError
from certd.formats import FORMATS, Format, render

if TYPE_CHECKING:
    from certd.secrets import Secret

STDOUT = Path("-")


@certd_command("export")
@click.argument("name")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="fullchain",
    show_default=True,
    help="combined is leaf, chain and key in one; key-first has the key before them; "
    "pkcs12-legacy is for old Windows, Java and Android.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    default=STDOUT,
    help="A new file; with a key in it, only its owner can read it. Else standard output.",
)
@click.option("--version", "number", type=int, help="An earlier version; else the current one.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="What locks pkcs12, pkcs12-legacy and jks.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def command(
    context: click.Context,
    name: str,
    form: str,
    path: Path,
    number: int | None,
    password_file: Path | None,
    force: bool,
) -> int:
    """Write the certificate NAME in a format, from the store, also beside a running daemon.

    It is as it is in the store now and is not kept up to date: for that a disk target has
    `files`. A private key is not written to a terminal.
    """
    wanted = FORMATS[form]
    password = _password(form, wanted, password_file)
    if path == STDOUT and (wanted.key or wanted.binary):
        refuse_terminal("a private key" if wanted.key else "no text")
    if path == STDOUT and force:
        raise ConfigError("--force has no use", "standard output is no file", "name one: --output")

    from certd import config as configuration
    from certd.store import Store

    config = configuration.load(config_path(context))
    store = Store.look(config.state, config.seal)
    try:
        if name in config.certificates and not store.revocations.numbers(name):
            todo = f"`certd renew {name}` gets it"
            raise CertdError(f"{name} has no certificate yet", "", todo)
        version, _ = version_of(store, name, number)
        bundle = store.lineages.bundle(name, version.number)
    finally:
        store.close()
    data = render(bundle, form, password)
    try:
        write(path, data, KEY_MODE if wanted.key else PUBLIC_MODE, replace=force)
    except ConfigError as error:
        raise ConfigError(error.what, error.why, f"{error.next}, or replace it: --force") from None
    if path != STDOUT:
        say(f"{path}: version {bundle.version} of {name}, {wanted.description}")
    return 0


def _password(form: str, wanted: Format, file: Path | None) -> Secret | None:
    """From a file only: arguments of programs are for everybody to see."""
    from certd.references import SecretReference

    if file is None:
        if wanted.password:
            raise ConfigError(
                f"{form} needs a password", "it holds the private key under one", "--password-file"
            )
        return None
    if not wanted.password:
        locked = ", ".join(name for name, one in FORMATS.items() if one.password)
        raise ConfigError(f"{form} has no password", f"only {locked} have", "leave it out")
    reference = SecretReference("file", file.absolute())
    if warning := reference.warning():
        say(f"warning: {': '.join(warning[:2])}; {warning[2]}", err=True)
    return reference.fetch()
