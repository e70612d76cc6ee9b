"""A file to a Config, or to everything that is wrong with it; and the file's JSON Schema."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from certd import plugins
from certd.config.certificates import certificates
from certd.config.findings import BadConfig
from certd.config.page import Page
from certd.config.source import Source
from certd.config.tables import CATable, CertdTable, HTTPTable, root_model
from certd.config.targets import TargetType, targets
from certd.config.values import WELL_KNOWN, CASettings, Config, HTTPSettings
from certd.config.words import Wording


def config(source: Source, path: Path) -> Config:
    """The configuration that the file holds.

    Raises:
        BadConfig: with every finding.
    """
    page = Page(source)
    page.unknown_tables()
    certd: CertdTable | None = page.check(
        ("certd",), page.raw.get("certd", {}), Wording(CertdTable)
    )
    http, built, specs = _http(page), targets(page), certificates(page)
    cas = _cas(page, {ca for spec in specs.values() for ca in spec.cas})
    if page.findings or certd is None:
        raise BadConfig(page.findings)
    return Config(
        path=path,
        state=certd.state,
        contact=tuple(certd.contact),
        workers=certd.workers,
        cas=cas,
        http=http,
        targets=built,
        certificates=specs,
        digest=source.digest,
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration, with every installed kind of target.

    Raises:
        ConfigError: an installed target does not load.
    """
    installed = plugins.deploy_targets()
    models = [TargetType.load(name, installed).wording.model for name in sorted(installed)]
    target: Any = functools.reduce(operator.or_, models) if models else dict[str, Any]
    if len(models) > 1:
        target = Annotated[target, Field(discriminator="type")]
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **root_model(target).model_json_schema()}


def _http(page: Page) -> HTTPSettings:
    raw = page.raw.get("http", {})
    table: HTTPTable | None = page.check(("http",), raw, Wording(HTTPTable))
    if isinstance(raw, dict) and "listen" in raw and "webroot" in raw:
        page.add(
            ("http", "webroot"),
            "listen and webroot are both there",
            "either certd answers the CA, or the web server of that folder does",
            "leave one of them out",
        )
    if table is None:
        return HTTPSettings()
    page.check_twice(("http", "listen"), table.listen)
    return HTTPSettings(() if table.webroot else tuple(table.listen), table.webroot)


def _cas(page: Page, used: set[str]) -> dict[str, CASettings]:
    """Those with a table; and those that are used without one, for they are well known."""
    cas = {
        name: CASettings(name, known.directory, staging=known.staging)
        for name, known in WELL_KNOWN.items()
        if name in used
    }
    for name, raw in page.named("ca"):
        table: CATable | None = page.check(("ca", name), raw, Wording(CATable))
        known = WELL_KNOWN.get(name)
        if known is None and "directory" not in raw:
            page.add(
                ("ca", name, "directory"),
                "missing",
                "only the well-known CAs need none",
                'add directory = "https://ca.example/directory"',
            )
        if table is None:
            continue
        staging = table.staging
        # The staging service that we know of belongs to the directory that we know of.
        if known and staging is None and table.directory in (None, known.directory):
            staging = known.staging
        directory = table.directory or (known.directory if known else "")
        cas[name] = CASettings(name, directory, table.ca_bundle, table.agree_tos, staging)
    return cas
