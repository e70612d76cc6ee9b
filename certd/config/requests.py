"""``csr`` of a certificate: the signing request, and what of the table it must agree with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from certd.config.findings import shown
from certd.config.page import Page
from certd.config.places import Location
from certd.config.tables import CertificateTable
from certd.config.values import TargetSettings
from certd.errors import BadCertificate, ConfigError
from certd.model import CertificateSpec, KeyType, SigningRequest
from certd.references import read_file
from certd.x509 import csr_usages, read_request
from certd.x509.requests import HOW_TO, MOST_BYTES


def own_request(
    page: Page, location: Location, table: CertificateTable, raw: Mapping[str, Any]
) -> tuple[SigningRequest, KeyType] | None:
    """The request and the type of its key; None: what is wrong with it is noted."""
    where, path = (*location, "csr"), table.csr
    if path is None:
        return None
    try:
        request, kind, asked = read_request(read_file(path, MOST_BYTES))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        page.add(where, f"{shown(str(path))} cannot be used", why, "correct the path")
        return None
    except BadCertificate:
        why = "it is no signing request"
        page.add(where, f"{shown(str(path))} cannot be used", why, HOW_TO)
        return None
    except ConfigError as error:
        why = f"{error.what}: {error.why}"
        page.add(where, f"{shown(str(path))} cannot be used", why, error.next)
        return None
    wanted = set(table.names)
    differing = [f"+{one}" for one in sorted(asked - wanted)]
    differing += [f"-{one}" for one in sorted(wanted - asked)]
    if differing:
        what = "the names are not those of its signing request"
        todo = "write the same names, or make another request"
        page.add((*location, "names"), what, f"in {path.name}: {' '.join(differing)}", todo)
    asks_for = csr_usages(request.pem)
    if lacking := [usage for usage in table.usage if usage not in asks_for]:
        page.add(
            (*location, "usage"),
            f"its signing request is not for a TLS {' and '.join(lacking)}",
            f"{path.name} is for {' and '.join(asks_for) or 'neither server nor client'}",
            'make another with `-addext "extendedKeyUsage=serverAuth,clientAuth"`, as is wanted',
        )
    if raw.get("key", kind) != kind:
        what = f"{shown(str(raw['key']))} is not the type of the key in {path.name}"
        page.add((*location, "key"), what, f"that is {kind}", "leave it out")
    for setting in ("reuse_key", "backup_key"):
        if raw.get(setting):
            what = "csr and this are both there"
            why = "certd makes no key where the signing request is yours"
            page.add((*location, setting), what, why, "leave one of them out")
    return request, cast(KeyType, kind)


def check_targets(
    page: Page, specs: Mapping[str, CertificateSpec], targets: Mapping[str, TargetSettings]
) -> None:
    """A target that needs the key cannot have a certificate without."""
    for spec in specs.values():
        for index, name in enumerate(spec.targets if spec.csr else ()):
            target = targets.get(name)
            if target is not None and getattr(target.plugin, "keyless", None) is not True:
                page.add(
                    ("certificate", spec.name, "targets", index),
                    f"{shown(name)} cannot take a certificate without its key",
                    f"this target of type {target.type} needs both, and with csr certd has no key",
                    "deploy it to a disk target, with no file that holds the key, and let its "
                    "reload command bring it there",
                )
