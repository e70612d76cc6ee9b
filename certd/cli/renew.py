"""``certd renew``: the one-shot command."""

from __future__ import annotations

import gc
import logging
import signal

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, log_to_stderr, say
from certd.cli.progress import shown, tell
from certd.errors import ConfigError


@certd_command("renew")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--force", is_flag=True, help="Renew the named certificates even if not due.")
@click.option(
    "--new-key", is_flag=True, help="The same, with another private key, whatever reuse_key says."
)
@click.option(
    "--dry-run", is_flag=True, help="Go through it all at the CA's staging directory; keep nothing."
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures only: for cron.")
@click.option("--debug", is_flag=True, help="Log what is done; never a key or a token.")
def command(
    context: click.Context,
    names: tuple[str, ...],
    force: bool,
    new_key: bool,
    dry_run: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Renew and deploy everything that is due, or the named certificates, then exit.

    Works beside a running daemon: what that has under way is waited for. A named
    certificate that failed is tried again at once, whatever its back-off.
    """
    if (force or new_key) and not names:
        option = "--new-key" if new_key else "--force"
        raise ConfigError(
            f"{option} needs names",
            "renewing everything at once would spend the CA's limits",
            f"name the certificates: certd renew {option} NAME…",
        )
    # Like Ctrl-C: what runs for a target is ended in order, leases are given back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log_to_stderr(logging.DEBUG if debug else logging.CRITICAL)
    from certd import config as configuration
    from certd.engine import oneshot
    from certd.engine.node import Node
    from certd.store import Store

    config = configuration.load(config_path(context))
    chosen = config.chosen(names)
    lacking = config.lacking_for(chosen) + configuration.refused_names(config, chosen)
    if names and lacking:  # before a CA is asked for what could not be had, or not be deployed
        raise configuration.BadConfig(lacking)
    for lack in lacking:  # every other certificate is worth more
        say(str(lack), err=True)
    store = Store.open(config.state, config.seal)
    gc.freeze()  # modules and configuration stay: the collector need not look at them again
    try:
        with shown() as progress:
            if dry_run:
                outcomes = oneshot.rehearse(config, store, chosen, progress)
            else:
                store.lineages.take_over(config.certificates, config.digest, config.table_digests)
                node = Node(config, store, progress, attended=True)
                try:
                    outcomes = oneshot.renew(
                        node, chosen, named=bool(names), force=force, new_key=new_key
                    )
                finally:
                    node.stop()
    finally:
        store.close()
    return tell(outcomes, quiet=quiet)
