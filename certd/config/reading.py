"""A file to a Config, or to everything that is wrong with it; and the file's JSON Schema."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from certd.budget import Limits
from certd.config import hubs, identifiers, kinds, local
from certd.config.authorities import CASettings, EABSettings
from certd.config.catables import CATable, EABTable
from certd.config.certificates import certificates
from certd.config.distribution import distribution
from certd.config.dns import check_room, providers
from certd.config.findings import BadConfig, shown
from certd.config.kinds import Group, Kind
from certd.config.page import Page
from certd.config.requests import check_targets
from certd.config.source import Source
from certd.config.tables import NEEDED, CertdTable, HTTPTable, TLSALPNTable, root_model
from certd.config.targets import ruled, targets
from certd.config.values import DEFAULT_CA, LOCAL, Config, HTTPSettings, TLSALPNSettings
from certd.config.wellknown import WELL_KNOWN
from certd.config.words import Wording, found, unknown
from certd.errors import ConfigError
from certd.model import CertificateSpec

_CA = Wording(CATable)
_EAB = Wording(
    EABTable,
    {key: why for (table, key), why in NEEDED.items() if table == "eab"},
    frozenset({"hmac"}),
)


def config(source: Source, path: Path) -> Config:
    """The configuration that the file holds.

    Raises:
        BadConfig: with every finding, what this machine lacks among them.
    """
    page = Page(source)
    page.unknown_tables()
    certd: CertdTable | None = page.check(
        ("certd",), page.raw.get("certd", {}), Wording(CertdTable)
    )
    http, tls_alpn, built = _http(page), _tls_alpn(page), targets(page)
    dns, specs = providers(page), certificates(page)
    cas = _cas(page, _used(page))
    hub, clients = distribution(page, specs)
    _check_contacts(page, cas)
    check_targets(page, specs, built)
    check_room(page, specs, dns)
    if page.findings or certd is None:
        raise BadConfig([*page.findings, *page.lacking])
    return Config(
        path=path,
        state=certd.state,
        contact=tuple(certd.contact),
        workers=certd.workers,
        cas=cas,
        http=http,
        targets=built,
        certificates=ruled(specs, built),
        digest=_digest(source, specs),
        tls_alpn=tls_alpn,
        dns=dns,
        resolver=certd.resolver,
        name_server_port=certd.name_server_port,
        seal=certd.seal,
        distribution=hub,
        clients=clients,
        lacking=tuple(page.lacking),
        warnings=tuple(page.warnings),
    )


def _digest(source: Source, specs: Mapping[str, CertificateSpec]) -> str:
    """Of the file; and of the signing requests that it names, which change without it."""
    requests = [spec.csr.pem for _, spec in sorted(specs.items()) if spec.csr]
    if not requests:
        return source.digest
    return hashlib.sha256("\n".join([source.digest, *requests]).encode()).hexdigest()


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration, with every installed kind of target.

    Raises:
        ConfigError: an installed plugin does not load.
    """
    root = root_model(_any_of(kinds.TARGETS), _any_of(kinds.PROVIDERS))
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **root.model_json_schema()}


def _any_of(group: Group) -> Any:
    """The type of any table of the group."""
    installed = group.installed()
    models = [Kind.load(name, group, installed).wording.model for name in sorted(installed)]
    table: Any = functools.reduce(operator.or_, models) if models else dict[str, Any]
    return Annotated[table, Field(discriminator=group.key)] if len(models) > 1 else table


def _http(page: Page) -> HTTPSettings:
    raw = page.raw.get("http", {})
    wording = Wording(HTTPTable)
    table: HTTPTable | None = page.check(("http",), raw, wording)
    if isinstance(raw, dict) and "listen" in raw and "webroot" in raw:
        page.add(
            ("http", "webroot"),
            "listen and webroot are both there",
            "either certd answers the CA, or the web server of that folder does",
            "leave one of them out",
        )
    if isinstance(raw, dict) and "redirect" in raw and "webroot" in raw:
        page.add(
            ("http", "redirect"),
            "webroot and redirect are both there",
            "certd does not listen where a web server answers, so it cannot redirect",
            "leave it out, and let the web server redirect",
        )
    right: HTTPTable | None = table or page.right_part(raw, wording)
    if right is not None:
        page.check_twice(("http", "listen"), right.listen)
    if table is None:
        return HTTPSettings()
    return HTTPSettings(
        () if table.webroot else tuple(table.listen),
        table.webroot,
        table.redirect,
        table.validation_port,
    )


def _tls_alpn(page: Page) -> TLSALPNSettings:
    raw, wording = page.raw.get("tls_alpn", {}), Wording(TLSALPNTable)
    table: TLSALPNTable | None = page.check(("tls_alpn",), raw, wording)
    right: TLSALPNTable | None = table or page.right_part(raw, wording)
    if right is not None:
        page.check_twice(("tls_alpn", "listen"), right.listen)
    if table is None:
        return TLSALPNSettings()
    return TLSALPNSettings(tuple(table.listen), table.validation_port)


def _used(page: Page) -> set[str]:
    """The CAs that certificates name, whatever else is wrong with them."""
    lists = [raw.get("ca", [DEFAULT_CA]) for raw in page.tables("certificate").values()]
    return {ca for names in lists if isinstance(names, list) for ca in names if isinstance(ca, str)}


def _cas(page: Page, used: set[str]) -> dict[str, CASettings]:
    """Those with a table; and those that are used without one, for they are well known."""
    cas = {
        name: CASettings(name, known.directory, staging=known.staging, limits=known.limits)
        for name, known in WELL_KNOWN.items()
        if name in used
    }
    if LOCAL in used:
        cas[LOCAL] = local.settings(LOCAL)
    for name, raw in page.named("ca"):
        if hubs.is_hub(raw):
            hubs.check_keys(page, name, raw)
            right = {key: value for key, value in raw.items() if key != "eab"}
            cas[name] = hubs.settings(page, name, page.check(("ca", name), right, _CA))
            _check_proxy(page, cas[name])
            continue
        local.check_keys(page, name, raw)
        eab = _eab(page, name, raw)
        raw = {key: value for key, value in raw.items() if key != "eab"}
        table: CATable | None = page.check(("ca", name), raw, _CA)
        if local.is_local(name, raw):
            cas[name] = local.settings(name, table)
            continue
        known = WELL_KNOWN.get(name)
        if known is None and "directory" not in raw:
            near = unknown("", name, WELL_KNOWN)[2]
            near = f"{near} Otherwise " if near.startswith("did you mean") else ""
            page.add(
                ("ca", name, "directory"),
                "missing",
                "only the well-known CAs need none",
                f'{near}add directory = "https://ca.example/directory", or type = "local" for a '
                "CA of certd's own",
            )
        if table is None:
            continue
        staging = table.staging
        # The staging service that we know of belongs to the directory that we know of.
        if known and staging is None and table.directory in (None, known.directory):
            staging = known.staging
        directory = table.directory or (known.directory if known else "")
        limits = known.limits if known and directory == known.directory else Limits()
        if table.limits is not None:
            page.check_twice(("ca", name, "limits"), [kind for kind, _ in table.limits])
            limits = Limits(**dict(table.limits), renewals_exempt=limits.renewals_exempt)
        cas[name] = CASettings(
            name,
            directory,
            table.ca_bundle,
            table.agree_tos,
            staging,
            limits,
            eab=eab,
            preferred_chain=table.preferred_chain,
            roots=table.roots,
            crl=table.crl,
            proxy=table.proxy,
            proxy_password=table.proxy_password,
            source_address=table.source_address,
            min_tls=table.min_tls,
        )
        _check_proxy(page, cas[name])
    return cas


def _check_proxy(page: Page, ca: CASettings) -> None:
    """User and password are both there, or neither."""
    user = ca.proxy.user if ca.proxy else None
    where = f"http://{user or 'certd'}@{str(ca.proxy or 'http://proxy:3128').rpartition('/')[2]}"
    if ca.proxy_password is not None and user is None:
        page.add(
            ("ca", ca.name, "proxy_password"),
            "there is no user that it belongs to",
            "",
            f'write proxy = "{where}"',
        )
    if ca.proxy_password is None and user is not None:
        page.add(
            ("ca", ca.name, "proxy"),
            f"there is no password for {shown(user)}",
            "",
            'add proxy_password = { file = "/etc/certd/proxy-password" }',
        )


def _eab(page: Page, name: str, raw: Mapping[str, Any]) -> EABSettings | None:
    """A table in the table: checked by itself, so that what is wrong has its own name."""
    if "eab" not in raw:
        return None
    location, inner = ("ca", name, "eab"), raw["eab"]
    if not isinstance(inner, dict):
        todo = 'write eab = { kid = "…", hmac = { file = "…" } }'
        page.add(location, f"expected a table, found {found(inner)}", "", todo)
        return None
    table: EABTable | None = page.check(location, inner, _EAB)
    if table is None:
        return None
    if table.hmac.kind == "plain":  # the only one that can be looked at without fetching it
        try:
            identifiers.mac_key(table.hmac.fetch())
        except ConfigError as error:
            page.add((*location, "hmac"), error.what, error.why, error.next)
    return EABSettings(table.kid, table.hmac)


def _check_contacts(page: Page, cas: Mapping[str, CASettings]) -> None:
    """Any URL may be a contact (RFC 8555 section 7.3), but not at every CA."""
    only = {known.directory for known in WELL_KNOWN.values() if known.mailto_only}
    choosy = [name for name, ca in cas.items() if ca.directory in only]
    table = page.raw.get("certd")
    contacts = table.get("contact") if isinstance(table, dict) and choosy else None
    for index, text in enumerate(contacts if isinstance(contacts, list) else ()):
        if _is_no_mail(text):
            page.add(
                ("certd", "contact", index),
                f"{shown(str(text))} is no contact for {choosy[0]}",
                "it makes accounts with mailto: addresses only",
                'write "mailto:you@…", or leave it out',
            )


def _is_no_mail(text: object) -> bool:
    """A contact that is right, but no mail address."""
    try:
        return isinstance(text, str) and not identifiers.contact(text).lower().startswith("mailto:")
    except ConfigError:
        return False
