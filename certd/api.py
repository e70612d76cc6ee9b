"""Everything that a plugin may import.

A plugin is a frozen dataclass whose fields are its settings, registered by an entry
point (``certd.deploy_targets``, ``certd.dns_providers``). The core builds it from the
operator's table; a field annotated ``pathlib.Path`` is resolved against the
configuration file's folder, one annotated ``SecretReference`` names a place of a secret,
which is fetched when it is used, and one annotated ``Secret`` is never shown. The metadata of a
field may have a ``check``, which is called with the operator's value and raises ConfigError.
"""

from __future__ import annotations

from typing import Protocol

from certd.errors import (
    CertdError,
    ConfigError,
    NotHere,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    TargetBusy,
    TargetError,
    plain,
)
from certd.failpoint import failpoint
from certd.formats import FORMATS, Format, Parts, format_named, is_rendered, render
from certd.model import (
    Bundle,
    Certificate,
    DNSChallenge,
    Identifier,
    Managed,
    Pair,
    TxtRecord,
    fingerprint,
)
from certd.program import check_program, run_program, said
from certd.references import SecretReference
from certd.room import Lack, lack
from certd.secrets import Secret, in_memory

__all__ = [
    "FORMATS",
    "Bundle",
    "CertdError",
    "Certificate",
    "ConfigError",
    "DNSChallenge",
    "DNSProvider",
    "DeployTarget",
    "Format",
    "Identifier",
    "Lack",
    "Managed",
    "NotHere",
    "Pair",
    "Parts",
    "ProviderBusy",
    "ProviderDenied",
    "ProviderError",
    "Secret",
    "SecretReference",
    "TargetBusy",
    "TargetError",
    "TxtRecord",
    "check_program",
    "failpoint",
    "fingerprint",
    "format_named",
    "in_memory",
    "is_rendered",
    "lack",
    "plain",
    "render",
    "run_program",
    "said",
]


class DNSProvider(Protocol):
    """Writes TXT records in zones of one account.

    The core works out the record, retries, waits for the name servers, and calls from several
    threads, but never twice at once for one name. Either method may be called again for the
    same record, after a time-out say, of which nobody knows what it did.

    It may have any of these besides:

    ``credential``, a class variable: for the operator, where the credential is made, and the least
    that it must be allowed.

    ``zones() -> Collection[str]``: the zones of the account, lower-case, without a final dot.
    Where a name is below several, the core takes the longest.

    ``exclusive``, a class variable: "name" (the default), or "zone" where a change writes
    more than the one name, so that a zone must be left alone until it is done.

    ``rate``, a class variable: how many changes the service allows, as in "20/1s" (s, m, h, d).

    ``most_values``, a class variable: how many values one name can have, where that is limited;
    a whole zone, where ``exclusive`` is "zone".

    ``names() -> Collection[str]``: the only names that it can write, where it is not free to write
    any in its zones.

    ``removes``, a class variable that is false: values cannot be taken away, newer ones push them
    out, so that ``remove_txt`` does nothing.

    ``by_hand``, a class variable that is true: somebody does it, so that only a command waits.

    ``wants_challenge``, true: the service makes name and value itself, so that each record of
    dns-01 has the ``challenge`` that they are made of, also when it is removed after a crash.

    ``settled(record) -> bool``: whether its own name servers have what was written, where the
    service can tell; it is asked again until they have.
    """

    def add_txt(self, record: TxtRecord) -> None:
        """Publish the value; the other values at that name MUST stay.

        Raises:
            ProviderBusy: a passing failure (429, 5xx, a time-out); tried again soon.
            ProviderDenied: the credential is refused (401, 403), with the permission it needs;
                and its ``zone``, where it is certain that other zones are no matter of it.
            ProviderError: anything else, such as a zone that is not of the account.
        """

    def remove_txt(self, record: TxtRecord) -> None:
        """Remove this value only; an absent one counts as success. Raises as ``add_txt``."""


class DeployTarget(Protocol):
    """A place that serves certificates: a folder and its server, a load balancer …

    It may have any of these methods besides:

    ``place(name) -> str``: where it puts this lineage, told from the settings alone. Two
    lineages with the same place are a wrong configuration.

    ``recover(name) -> Pair | None``: what is in place for this lineage, with its key; None
    if that is nothing. It is how certificates come back after the loss of the database
    without being issued again. The core checks what it gets. Raises TargetError when it
    cannot be told.

    ``keyless``, a class variable that is true: it can be given a bundle without a key
    (``Bundle.keyless``), of a certificate whose signing request the operator made.

    ``ready(name) -> None``: raises TargetError if a deployment could not succeed just now,
    for want of room say. Asked before each order, so that none is made in vain: it is
    quick, and writes nothing.

    ``managed() -> Collection[Managed]``: certificates at the service that it renews itself:
    they are shown beside certd's own. Asked now and then; reads only. Raises as ``deploy``.
    """

    def deploy(self, bundle: Bundle) -> None:
        """Make this bundle the one in place.

        Idempotent and atomic: until the new pair works the old one does, and a bundle
        that is already in place is only made sure of. The core rolls back by deploying
        the bundle before, so a deployment must not depend on its version being newer.

        Nothing is sent to a service twice: what has this bundle's fingerprint there already
        is taken as it is.

        Raises:
            TargetBusy: a passing failure of a service (throttled, 5xx, a time-out); tried
                again later, and nothing is put back.
            TargetError: it could not be done; the core goes back, and tries again later.
        """

    def serving(self, name: str) -> str | None:
        """The fingerprint of what is in place for this lineage; "": nothing is, no whole pair.

        SHA-256 of the leaf's DER, lower-case hexadecimal: ``fingerprint(pem)``. It is also
        asked now and then when nothing is to be deployed, to find what somebody has changed.
        None: it can never be told at such a target.

        Raises:
            TargetBusy: a change is on its way, or a passing failure: after a deployment it is
                asked again until it can be told, and nothing is put back.
            TargetError: the service could not be asked.
        """
