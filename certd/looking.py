"""Does a target serve a version: is it in place there, and does every endpoint present it?

Everything is asked at the same time and within one time. What is wrong is a TargetError;
``Unseen`` if nothing is known to be wrong, but something could not be looked at; ``Unfit`` if
all serve the version, and one not as its policy wants.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from certd import verify, x509
from certd.config import Endpoint, TargetSettings
from certd.errors import (
    BadCertificate,
    CertdError,
    StoreError,
    TargetBusy,
    TargetError,
    Unfit,
    Unread,
    Unseen,
    plain,
)
from certd.model import Bundle
from certd.together import together

log = logging.getLogger(__name__)

PROBE_TIMEOUT = 5.0  # seconds for one look at all addresses of all endpoints
_MOST_AT_ONCE = 64  # threads
_NAMES = 5  # of a certificate that was not expected, in an error
_ALSO = 3  # troubles that are told beside the first


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of one address of an endpoint; ``endpoint`` None: of what is in place.

    ``fingerprint`` is "" where nothing was seen, ``trouble`` what is not as it should be;
    ``skipped`` says why it was left out.
    """

    endpoint: Endpoint | None
    address: str = ""
    fingerprint: str = ""
    served: verify.Served | None = None
    chain: str = ""  # what is wrong with it
    trouble: CertdError | None = None
    skipped: str = ""


def look(bundle: Bundle, settings: TargetSettings, sights: list[Sight] | None = None) -> None:
    """Raise TargetError unless the target has the bundle, and every endpoint serves it.

    ``sights`` gets all that was seen, also where that is not as it should be. What is not in
    place is not looked for at endpoints where nobody wants to know of them.
    """
    place = _in_place(bundle, settings)
    if place.trouble is not None and sights is None and not isinstance(place.trouble, Unread):
        raise place.trouble
    seen = _at_endpoints(bundle, settings.verify)
    if sights is not None:
        sights += [place, *seen]
    if troubles := [sight.trouble for sight in [place, *seen] if sight.trouble is not None]:
        raise _first(troubles)
    for sight in seen:
        if sight.skipped:
            log.info("%s: %s at %s: %s", bundle.name, sight.endpoint, sight.address, sight.skipped)


def _in_place(bundle: Bundle, settings: TargetSettings) -> Sight:
    wanted = bundle.certificate.fingerprint
    try:
        there = settings.plugin.serving(bundle.name)
    except (StoreError, TargetBusy, Unseen) as error:
        return Sight(None, trouble=error)
    except CertdError as error:  # nothing is known of what is there
        return Sight(None, trouble=Unread(error.what, error.why, error.next))
    if there is None or there == wanted:
        return Sight(None, fingerprint=there or "")
    what, why = "no usable", "it is missing, or its key or chain does not belong to it"
    if there:
        what, why = "another", f"fingerprint {there[:16]}… instead of {wanted[:16]}…"
    what = f"{settings.name} has {what} certificate in place"
    trouble = TargetError(what, why, "find out who else writes there")
    return Sight(None, fingerprint=there, trouble=trouble)


def _at_endpoints(bundle: Bundle, endpoints: Sequence[Endpoint]) -> list[Sight]:
    """What each address of each of them presents; policies are judged where all is well so far."""
    deadline = time.monotonic() + PROBE_TIMEOUT
    sights: list[Sight] = []
    asked: list[tuple[Endpoint, str]] = []
    for endpoint, found in zip(
        endpoints, together(_resolve, endpoints, _MOST_AT_ONCE), strict=True
    ):
        if isinstance(found, TargetError):
            sights.append(Sight(endpoint, trouble=found))
        else:
            asked += [(endpoint, address) for address in found]

    def probe(item: tuple[Endpoint, str]) -> Sight:
        return _probe(bundle, *item, deadline)

    sights += together(probe, asked, _MOST_AT_ONCE)
    sights = [_skipped(sight, sights) for sight in sights]
    if any(sight.trouble for sight in sights):
        return sights
    # One address of each is enough: it is one server's configuration, and a scan takes seconds.
    places: dict[Endpoint, int] = {}
    for at, sight in enumerate(sights):
        if sight.endpoint and sight.endpoint.tls and sight.served:
            places.setdefault(sight.endpoint, at)
    judged = together(lambda at: _judge(bundle, sights[at]), list(places.values()), _MOST_AT_ONCE)
    for at, sight in zip(places.values(), judged, strict=True):
        sights[at] = sight
    return sights


def _resolve(endpoint: Endpoint) -> list[str] | TargetError:
    if endpoint.addresses:
        return list(endpoint.addresses)
    try:
        return verify.addresses_of(endpoint.host, endpoint.port, PROBE_TIMEOUT)
    except TargetError as error:
        return error


def _way(bundle: Bundle, endpoint: Endpoint, address: str, seconds: float) -> verify.Way:
    sni = endpoint.sni or verify.sni_for(endpoint.host, bundle.certificate.identifiers)
    return verify.Way(address, endpoint.port, sni, seconds, endpoint.starttls, None, str(endpoint))


def _probe(bundle: Bundle, endpoint: Endpoint, address: str, deadline: float) -> Sight:
    def way() -> verify.Way:
        return _way(bundle, endpoint, address, max(deadline - time.monotonic(), 0.1))

    try:
        served = verify.probe(way())
        if served.fingerprint != bundle.certificate.fingerprint:
            served = _has_it_too(bundle, way()) or served
    except TargetError as error:
        return Sight(endpoint, address, trouble=error)
    chain, trouble = "", _other(bundle, way(), served)
    if trouble is None:
        chain, todo = _chain(bundle, endpoint, served)
        if chain:
            what = f"{way().where} serves version {bundle.version} with a chain that does not do"
            trouble = TargetError(what, chain, todo)
    if trouble is None and endpoint.hsts:
        trouble = _hsts(endpoint, way())
    return Sight(endpoint, address, served.fingerprint, served, chain, trouble)


def _has_it_too(bundle: Bundle, way: verify.Way) -> verify.Served | None:
    """What a client is served that takes only this kind of key, if it is this bundle: a server
    may have two.
    """
    kind = x509.kind_of(x509.read_chain(bundle.leaf_pem)[0].public_key())
    try:
        served = verify.probe(replace(way, kind=kind))
    except TargetError:
        return None
    return served if served.fingerprint == bundle.certificate.fingerprint else None


def _other(bundle: Bundle, way: verify.Way, served: verify.Served) -> TargetError | None:
    if served.fingerprint == bundle.certificate.fingerprint:
        return None
    asked = f"when asked for {way.sni}" if way.sni else "when asked for no name"
    return TargetError(
        f"{way.where} does not serve version {bundle.version}",
        f"it still serves {_seen(served, bundle)}, {asked}",
        "check that the server reads what the target has in place, and is reloaded after it",
    )


def _seen(served: verify.Served, bundle: Bundle) -> str:
    """The certificate that is there instead; its names where they are not the bundle's."""
    leaf = served.certificate
    if leaf is None:
        return f"fingerprint {served.fingerprint[:16]}…"
    seen = f"serial {leaf.serial}, valid until {leaf.not_after:%F}"
    if set(leaf.identifiers) == set(bundle.certificate.identifiers):
        return seen
    names = [name.value for name in leaf.identifiers]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    shown = plain(", ".join(names[:_NAMES]))
    return f"{seen}, for {shown or 'no name'}{more}"


def _chain(bundle: Bundle, endpoint: Endpoint, served: verify.Served) -> tuple[str, str]:
    """What is wrong with the chain that was sent, "" if it does; and what to do about it."""
    todo = "let the server send the whole chain: fullchain.pem, not cert.pem"
    try:
        if endpoint.roots and (
            why := verify.untrusted(served.sent, endpoint.roots.read_bytes(), datetime.now(UTC))
        ):
            why = f"a client that trusts {endpoint.roots.name} refuses it: {why}"
            return why, f"{todo}; or correct roots in verify = […]"
        if endpoint.pins and (why := verify.unpinned(served.sent, endpoint.pins)):
            pins = f"`certd show {bundle.name} --pins` has those of now"
            return why, f"correct pins in verify = […]: {pins}"
        if not (endpoint.roots or endpoint.pins):
            return verify.lacking(served.sent, bundle.chain_pem), todo
    except OSError as error:
        why = f"{endpoint.roots} cannot be read: {error.strerror or error}"
        return why, "let certd's user read it, or correct roots in verify = […]"
    except (BadCertificate, ValueError) as error:
        return f"it could not be judged: {plain(str(error))}", todo
    return "", ""


def _hsts(endpoint: Endpoint, way: verify.Way) -> TargetError | None:
    assert endpoint.hsts is not None  # noqa: S101 - the caller has looked; narrows the type
    try:
        served = verify.header(way, way.sni or endpoint.host)
    except TargetError as error:
        return _unjudged(error)
    if not (lacks := endpoint.hsts.lacks(served)):
        return None
    what = f"{way.where} does not serve the HSTS header that is wanted"
    todo = "correct the header in the server's configuration, or hsts in verify = […]"
    return Unfit(what, f'it serves "{served}": {lacks}', todo)


def _unjudged(error: TargetError) -> Unfit:
    """The certificate itself was seen: it is not to be taken back for this."""
    return Unfit(error.what, error.why, error.next)


def _skipped(sight: Sight, others: Sequence[Sight]) -> Sight:
    """Without its trouble, if that is this machine's and another address was seen."""
    if not isinstance(sight.trouble, verify.NoRoute):
        return sight
    if not any(other.served and other.endpoint == sight.endpoint for other in others):
        return sight
    return replace(sight, trouble=None, skipped=f"skipped: {sight.trouble.why}")


def _judge(bundle: Bundle, sight: Sight) -> Sight:
    """The same, with what is not as the endpoint's policy wants."""
    endpoint = sight.endpoint
    assert endpoint is not None  # noqa: S101 - only endpoints have policies; narrows the type
    assert endpoint.tls is not None  # noqa: S101 - as above
    way = _way(bundle, endpoint, sight.address, PROBE_TIMEOUT)
    try:
        found = verify.violations(way, endpoint.tls)
    except TargetError as error:
        return replace(sight, trouble=_unjudged(error))
    if not found:
        return sight
    what = f'{way.where} does not follow Mozilla\'s "{endpoint.tls}" guideline'
    todo = "correct the server's TLS settings: https://ssl-config.mozilla.org/"
    return replace(sight, trouble=Unfit(what, "; ".join(found), todo))


def _first(troubles: Sequence[CertdError]) -> CertdError:
    """The one that tells most, with the others in its words."""
    first = min(
        troubles,
        key=lambda one: (isinstance(one, Unfit), isinstance(one, Unread), isinstance(one, Unseen)),
    )
    others = [one for one in troubles if one is not first]
    if not others:
        return first
    also = [f"also {one.what}: {one.why}" for one in others[:_ALSO]]
    also += [f"and {len(others) - _ALSO} more"] if others[_ALSO:] else []
    kind = type(first) if isinstance(first, Unseen | Unfit) else TargetError
    return kind(first.what, "; ".join([first.why, *also]), first.next)
