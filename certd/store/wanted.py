"""A certificate as it is wanted, as text: what is default is left out of it.

So an upgrade that brings a setting changes nothing of what is there.
"""

from __future__ import annotations

import json
from datetime import timedelta
from functools import lru_cache
from typing import Any

from certd.model import SERVER, CertificateSpec, SigningRequest, TargetRule
from certd.store.rows import Unreadable, identifiers, identifiers_text


def spec_text(spec: CertificateSpec) -> str:
    """A line of names, and a line of JSON, which is the same for most certificates."""
    rest: dict[str, Any] = {
        "cas": spec.cas,
        # As it was kept when there was one at most.
        "challenge": spec.challenges if len(spec.challenges) > 1 else spec.challenges[0],
        "targets": spec.targets,
        "key_type": spec.key_type,
        "renew_after": spec.renew_after,
    }
    if spec.self_check is not None:
        rest["self_check"] = spec.self_check
    if spec.usages != SERVER:
        rest["usages"] = spec.usages
    if spec.preferred_chain is not None:
        rest["preferred_chain"] = spec.preferred_chain
    if spec.profile is not None:
        rest |= {"profile": spec.profile, "fallback_profile": spec.fallback_profile}
    if spec.lifetime is not None:
        rest["lifetime"] = spec.lifetime.total_seconds()
    if spec.reuse_key or spec.backup_key:
        rest |= {"reuse_key": spec.reuse_key, "backup_key": spec.backup_key}
    if spec.csr is not None:
        rest["csr"] = [spec.csr.pem, spec.csr.spki_sha256]
    if spec.dns:
        rest["dns"] = spec.dns
    if spec.rules:
        rest["rules"] = [[one.target, one.after, one.window] for one in spec.rules]
    if spec.pulled:
        rest["pulled"] = True
    return f"{identifiers_text(spec.identifiers)}\n{json.dumps(rest)}"


def spec(name: str, text: str) -> CertificateSpec:
    try:
        names, _, rest = text.partition("\n")
        return CertificateSpec(name, identifiers(names), *_rest(rest))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"what is wanted of {name}") from error


@lru_cache(maxsize=64)
def _rest(text: str) -> tuple[Any, ...]:
    it = json.loads(text)
    lifetime = it.get("lifetime")
    return (
        tuple(it["cas"]),
        (it["challenge"],) if isinstance(it["challenge"], str) else tuple(it["challenge"]),
        tuple(it["targets"]),
        it["key_type"],
        it["renew_after"],
        it.get("self_check"),
        tuple(it.get("usages", SERVER)),
        it.get("preferred_chain"),
        it.get("profile"),
        it.get("fallback_profile"),
        None if lifetime is None else timedelta(seconds=lifetime),
        it.get("reuse_key", False),
        it.get("backup_key", False),
        SigningRequest(*it["csr"]) if it.get("csr") else None,
        tuple((part, table) for part, table in it.get("dns", ())),
        tuple(
            TargetRule(target, tuple(after), tuple(window))
            for target, after, window in it.get("rules", ())
        ),
        it.get("pulled", False),
    )
