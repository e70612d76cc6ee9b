"""The certificate of an order, with the chain that is wanted (RFC 8555 section 7.4.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from certd import x509
from certd.ca.issuer import Issuer
from certd.ca.problem import Problem
from certd.ca.roots import known_roots
from certd.errors import BadCertificate, CertdError, plain
from certd.known import Order
from certd.model import Certificate, CertificateSpec

log = logging.getLogger(__name__)

MOST = 8  # alternates that are looked at; Let's Encrypt has one


@dataclass(frozen=True, slots=True)
class Fetched:
    """A checked certificate: leaf and chain in PEM. ``note``: what is to be said with it."""

    leaf_pem: str
    chain_pem: str
    facts: Certificate
    note: str = ""

    @property
    def parts(self) -> tuple[str, str, Certificate]:
        return self.leaf_pem, self.chain_pem, self.facts

    @property
    def fullchain_pem(self) -> str:
        return self.leaf_pem + self.chain_pem


def fetch(
    client: Issuer,
    url: str,
    order: Order,
    spec: CertificateSpec,
    now: datetime,
    *,
    patient: bool,
) -> Fetched:
    """Download and check; of several chains the one that is wanted, else the CA's own first.

    ``patient``: an alternate that does not come now is worth another try. If not, what there
    is is taken: a certificate is worth more than its chain.

    Raises:
        BadCertificate: what the CA sent is not what was asked for.
        Problem: the CA did not answer, or refused.
    """
    wish = spec.preferred_chain or client.preferred_chain
    sent = client.download(url)
    first = _checked(sent.pem, order, spec, now)
    if not wish:
        return first
    roots = known_roots(client.roots).with_sent(sent.pem)
    best, offered = first, []
    rank = x509.fits(first.fullchain_pem, wish, roots)
    offered.append(x509.ends_at(first.fullchain_pem))
    urls = sent.alternates[:MOST] if rank < 2 else ()
    for other, pem in _alternates(client, urls, order, spec, now, patient):
        if other.facts.fingerprint != first.facts.fingerprint:
            log.warning("%s: an alternate chain is of another certificate", order.name)
            continue
        offered.append(x509.ends_at(other.fullchain_pem))
        found = x509.fits(other.fullchain_pem, wish, roots.with_sent(pem))
        if found > rank:
            best, rank = other, found
        if rank == 2:
            break
    if rank:
        return best
    listed = ", ".join(dict.fromkeys(offered))
    note = f"{client.name} offers no chain to {plain(wish)}, but to {listed}: its first is taken"
    log.warning("%s: %s", order.name, note)
    return replace(first, note=f"; {note}")


def _alternates(
    client: Issuer,
    urls: tuple[str, ...],
    order: Order,
    spec: CertificateSpec,
    now: datetime,
    patient: bool,
) -> Iterator[tuple[Fetched, str]]:
    """Those that are good, each as it was sent too."""
    for url in urls:
        try:
            pem = client.download(url).pem
            yield _checked(pem, order, spec, now), pem
        except Problem as problem:
            if problem.transient and patient:
                raise
            log.warning("%s: an alternate chain is not to be had: %s", order.name, problem)
        except BadCertificate as error:
            log.warning("%s: an alternate chain is not taken: %s", order.name, error)
        except CertdError as error:  # it is somewhere else than at the CA
            log.warning("%s: an alternate chain is not asked for: %s", order.name, error)


def _checked(pem: str, order: Order, spec: CertificateSpec, now: datetime) -> Fetched:
    pin = spec.csr.spki_sha256 if spec.csr else x509.pin(order.key_pem)
    return Fetched(*x509.check_pin(pem, pin, order.identifiers, now, usages=spec.usages))
