"""What the commands that ask a CA about an account have in common: one CA, and the store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from certd.cli.options import config_path, log_to_stderr
from certd.errors import ConfigError

if TYPE_CHECKING:
    from certd.ca.account_requests import AccountRequests
    from certd.config import Config
    from certd.store import Store

FORMAT = 1  # of the JSON: bumped when a key changes its meaning or goes
CA = click.argument("ca", metavar="CA")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command that asks a CA works with."""

    ca: str
    config: Config
    store: Store
    requests: AccountRequests

    def ask_again(self) -> None:
        """What was stopped for the account's sake goes on."""
        self.store.lineages.ask_ca_again(self.ca, datetime.now(UTC))


@contextmanager
def at(context: click.Context, ca: str) -> Iterator[Desk]:
    log_to_stderr(logging.WARNING)
    from certd import config as configuration
    from certd.ca.account_requests import AccountRequests
    from certd.ca.client import Client
    from certd.ca.clients import Clients
    from certd.store import Store

    config = configuration.load(config_path(context))
    directory_of(config, ca)
    store = Store.open(config.state, config.seal)
    clients = Clients(config.cas, store.accounts, config.contact)
    try:
        client = clients(ca)
        if not isinstance(client, Client):
            raise ConfigError(
                f"{ca} has no accounts", "it is a CA of certd's own", "see `certd ca`"
            )
        client.directory()
        yield Desk(ca, config, store, AccountRequests(client.account, store.accounts))
    finally:
        clients.close()
        store.close()


def directory_of(config: Config, ca: str) -> str:
    settings = config.cas.get(ca)
    if settings is None:
        near = get_close_matches(ca, config.cas, 1)
        raise ConfigError(
            f"no CA is named {ca!r}",
            f"configured: {', '.join(config.cas) or 'none'}",
            f"did you mean {near[0]}?" if near else f"add a table [ca.{ca}] if it is to be used",
        )
    return settings.directory


def some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
