"""The names in a configuration that the CA of their certificate would refuse, with their lines.

They are no mistakes of the file: what a CA certifies is for the CA to say, and it may change
its mind. So they stop `certd check` and `certd renew NAME`, but no daemon.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable

from certd.config.findings import BadConfig, Finding
from certd.config.page import Page
from certd.config.policy import NamePolicy, Objection, objections
from certd.config.source import Source, read
from certd.config.values import Config
from certd.model import CertificateSpec


def refused_names(config: Config, names: Collection[str]) -> list[Finding]:
    """Of these certificates, whatever of their names a public CA in their list refuses."""
    page: Page | None = None
    for name in names:
        spec = config.certificates[name]
        for ca in spec.cas:
            policy = config.cas[ca].names
            for item in _objections(spec, policy) if policy else ():
                page = page or _page(config)
                place = ("certificate", name, "names")
                where = place if item.index is None else (*place, item.index)
                page.add(where, f"{ca} does not certify {item.what}", item.why, item.next)
    return page.findings if page else []


def _objections(spec: CertificateSpec, policy: NamePolicy) -> Iterable[Objection]:
    """By whichever of its profiles is ordered."""
    profiles = dict.fromkeys((spec.profile, spec.fallback_profile or spec.profile))
    every = (item for one in profiles for item in objections(spec.identifiers, policy, one))
    return dict.fromkeys(every)


def _page(config: Config) -> Page:
    """With lines, where there is a file and it is still the one that was read."""
    with contextlib.suppress(BadConfig):
        source = read(config.path)
        if source.digest == config.digest:
            return Page(source)
    return Page(Source.of({}))
