"""``certd account list`` and ``show``: what certd has, and what a CA has of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from certd.cli.account_desk import CA, FORMAT, at
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, say

if TYPE_CHECKING:
    from certd.ca.account_view import View
    from certd.known import Account

COLUMNS = ("CA", "STATE", "KEY", "ACCOUNT")


@certd_command("list")
@click.option("--json", "as_json", is_flag=True, help="Stable JSON, for programs.")
def list_(context: click.Context, as_json: bool) -> int:
    """List the accounts that certd has, and the CAs without one. Asks no CA."""
    from certd import config as configuration
    from certd import x509
    from certd.store import Store

    config = configuration.load(config_path(context))
    store = Store.look(config.state, config.seal)
    try:
        accounts = {account.directory: account for account in store.accounts.all()}
    finally:
        store.close()
    names: dict[str, list[str]] = {directory: [] for directory in accounts}
    for name, settings in config.cas.items():
        if settings.hub is not None:
            continue  # it is no CA, and has no accounts
        names.setdefault(settings.directory, []).append(name)
    found: list[dict[str, Any]] = [
        {
            "cas": cas,
            "directory": directory,
            "state": _state(account),
            "key": account and x509.type_of(account.key_pem),
            "uri": account and account.uri,
        }
        for directory, cas in names.items()
        for account in [accounts.get(directory)]
    ]
    if as_json:
        click.echo(json.dumps({"format": FORMAT, "accounts": found}, indent=2))
        return 0
    rows = [
        (", ".join(item["cas"]) or "–", item["state"], item["key"] or "–", item["uri"] or "–")
        for item in found
    ]
    for line in _columns([COLUMNS, *rows]):
        click.echo(line)
    for item in found:
        if item["state"] == "rolling over" and item["cas"]:
            name = item["cas"][0]
            say(f"\n{name}: a roll-over was begun; `certd account rollover {name}` goes on with it")
        if not item["cas"]:
            say(
                f"\n{item['uri'] or 'a key'} is for {item['directory']}, which no CA of the "
                "configuration is at; `certd account export` takes that URL too"
            )
    return 0


def _state(account: Account | None) -> str:
    if account is None:
        return "none"
    if account.deactivated:
        return "deactivated"
    if account.uri is None:
        return "unregistered"  # the key is there, and no answer of the CA
    return "rolling over" if account.next_key_pem else "registered"


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


@certd_command("show")
@CA
@click.option("--json", "as_json", is_flag=True, help="Stable JSON, for programs.")
def show(context: click.Context, ca: str, as_json: bool) -> int:
    """Show the account as the CA sees it: status, contacts, terms, key."""
    with at(context, ca) as desk:
        view, contact = desk.requests.view(), desk.config.contact
    if as_json:
        click.echo(json.dumps({"format": FORMAT, "ca": ca, **asdict(view)}, indent=2))
        return int(view.status != "valid")
    facts = [
        ("CA", ca),
        ("account", view.uri),
        ("status", view.status),
        ("contact", ", ".join(view.contact) or "none shown"),
        ("key", f"thumbprint {view.thumbprint}"),
    ]
    if view.external:
        facts.append(("bound to", f"{view.external} (external account)"))
    width = max(len(label) for label, _ in facts)
    for label, text in facts:
        click.echo(f"{label:<{width}}  {text}")
    _remark(ca, view, contact)
    return int(view.status != "valid")


def _remark(ca: str, view: View, contact: tuple[str, ...]) -> None:
    """What is not as the configuration has it."""
    if view.status == "valid" and set(view.contact) != set(contact):
        wanted = ", ".join(contact) or "none"
        seen = "" if view.contact else "not every CA shows what it was told; "
        say(f"\n[certd] contact is {wanted}: {seen}`certd account update {ca}` tells it")
    if view.other_terms and not view.terms:
        say(
            "\nno terms of service are noted as accepted: read those that it has now, "
            f"{view.other_terms}, then `certd account update {ca}` notes them"
        )
    elif view.other_terms:
        say(
            "\nthe terms of service are others than those that were accepted: read "
            f"{view.other_terms}, then `certd account update {ca}`"
        )
