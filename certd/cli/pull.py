"""``certd pull``: what other certds have for this machine, fetched and deployed once."""

from __future__ import annotations

import gc
import logging
import signal

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, log_to_stderr, say
from certd.cli.progress import shown, tell
from certd.errors import ConfigError


@certd_command("pull")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only: for cron.")
@click.option("--debug", is_flag=True, help="Log what is done; never a key.")
def command(context: click.Context, names: tuple[str, ...], quiet: bool, debug: bool) -> int:
    """Fetch from another certd what it has for this machine, and deploy it, then exit.

    All certificates whose ca is of type certd, or the named ones, whatever their back-off. The
    daemon, `certd run`, does so within seconds of a new version; this is for machines where
    none runs, and works beside one too. Exit status 1 when something was not to be had, or could
    not be deployed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # see `certd renew`
    log_to_stderr(logging.DEBUG if debug else logging.CRITICAL)
    from certd import config as configuration
    from certd.engine import oneshot
    from certd.engine.node import Node
    from certd.store import Store

    config = configuration.load(config_path(context))
    pulled = [one for one in config.chosen(names) if config.certificates[one].pulled]
    if other := [name for name in names if name not in pulled]:
        why, todo = "its ca is of no type certd", f"`certd renew {other[0]}` is for it"
        raise ConfigError(f"{other[0]} does not come from another certd", why, todo)
    if not pulled:
        why = "no certificate has a ca of type certd"
        raise ConfigError("there is nothing to pull", why, 'add [ca.hub] with type = "certd"')
    for lack in config.lacking_for(pulled):
        say(str(lack), err=True)
    store = Store.open(config.state, config.seal)
    gc.freeze()  # modules and configuration stay: the collector need not look at them again
    try:
        with shown() as progress:
            store.lineages.take_over(config.certificates, config.digest, config.table_digests)
            node = Node(config, store, progress)
            try:
                outcomes = oneshot.renew(node, pulled, named=True, force=False)
            finally:
                node.stop()
    finally:
        store.close()
    return tell(outcomes, quiet=quiet)
