"""``[distribution]`` and ``[client.NAME]``: which machines get which certificates from here."""

from __future__ import annotations

from collections.abc import Mapping

from certd.config import network
from certd.config.clienttables import ClientTable, DistributionTable
from certd.config.findings import shown
from certd.config.local import local_cas
from certd.config.page import Page
from certd.config.pairs import members
from certd.config.tables import NEEDED
from certd.config.values import ClientSettings, DistributionSettings
from certd.config.words import Wording
from certd.errors import ConfigError
from certd.model import CertificateSpec

_HUB = Wording(
    DistributionTable, {key: why for (table, key), why in NEEDED.items() if table == "distribution"}
)
_CLIENT = Wording(ClientTable, {"certificates": NEEDED["client", "certificates"]})


def distribution(
    page: Page, specs: Mapping[str, CertificateSpec]
) -> tuple[DistributionSettings | None, dict[str, ClientSettings]]:
    """Both, as far as they are right; what is wrong is noted on the page."""
    clients = _clients(page)
    raw = page.raw.get("distribution")
    if raw is None:
        for name in page.tables("client"):
            what, why = "there is no [distribution]", "nobody would answer this client"
            page.add(("client", name), what, why, "add that table, or leave this one out")
        return None, clients
    table: DistributionTable | None = page.check(("distribution",), raw, _HUB)
    if table is None:
        return None, clients
    page.check_twice(("distribution", "listen"), table.listen)
    _check_own(page, table.certificate, specs)
    if (table.clients is None) == (table.roots is None):
        there = "are both there" if table.clients else "are both missing"
        why = "it is to be known whose client certificates are good"
        page.add(
            ("distribution", "clients"),
            f"clients and roots {there}",
            why,
            'write clients = "local" for a CA of certd\'s own, or roots for any other',
        )
    elif table.clients is not None and table.clients not in local_cas(page):
        page.add(
            ("distribution", "clients"),
            f"{shown(table.clients)} is no CA of certd's own",
            "",
            "name one, or write roots = with the roots of that CA in PEM form",
        )
    found = DistributionSettings(tuple(table.listen), table.certificate, table.clients, table.roots)
    return found, clients


def _check_own(page: Page, name: str, specs: Mapping[str, CertificateSpec]) -> None:
    """The certificate that is shown to clients is there, and can be shown by a server."""
    where = ("distribution", "certificate")
    known = {
        member for one, raw in page.tables("certificate").items() for member in members(one, raw)
    }
    spec = specs.get(name)
    if name not in known:
        todo = f"correct it, or add a table [certificate.{name}]"
        page.add(where, f"no such certificate: {shown(name)}", "", todo)
    elif spec is not None and spec.csr:
        why = "its signing request is yours, and its key is not here"
        page.add(where, f"{shown(name)} cannot be shown by certd", why, "name another")
    elif spec is not None and "server" not in spec.usages:
        why = "it is for clients only"
        page.add(where, f"{shown(name)} cannot be shown by certd", why, "name another")


def _clients(page: Page) -> dict[str, ClientSettings]:
    found: dict[str, ClientSettings] = {}
    owners: dict[str, str] = {}
    tables = page.tables("certificate")
    known = {one for name, raw in tables.items() for one in members(name, raw)}
    for name, raw in page.named("client"):
        location = ("client", name)
        table: ClientTable | None = page.check(location, raw, _CLIENT)
        if table is None:
            continue
        where = (*location, "certificates")
        page.check_references(where, table.certificates, "certificate", dict.fromkeys(known))
        try:
            host = table.name or network.host_name(name)
        except ConfigError as error:
            todo = 'write the DNS name in its certificate: name = "web1.example.com"'
            page.add(location, error.what, error.why, todo)
            continue
        if (other := owners.setdefault(host, name)) != name:
            what = f"{shown(host)} is the name of {shown(other)} too"
            page.add(location, what, "", "put the certificates of both into one table")
        # Who names one of a pair means the table that it is from.
        whole = (one for each in table.certificates for one in members(each, tables.get(each, {})))
        found[name] = ClientSettings(name, host, tuple(dict.fromkeys(whole)))
    return found
