"""What targets at AWS have in common: the account of ``certd_providers.aws``, with their errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from certd_providers.aws import AWS
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import load_pem_x509_certificate

from certd.api import Bundle, CertdError, TargetBusy, TargetError
from certd_deploy.pem import pair_fingerprint

PATIENCE = 45.0  # seconds in which every part of AWS has heard of what was uploaded, as a rule
PAUSE = 0.5  # seconds between the first two looks; then ever longer
TAG = "certd:name"  # of what belongs to a lineage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AWSTarget(AWS):
    """An account, and the region of what is deployed to."""

    failed: ClassVar[Callable[..., CertdError]] = TargetError
    denied: ClassVar[Callable[..., CertdError]] = TargetError
    busy: ClassVar[Callable[..., CertdError]] = TargetBusy

    region: str = field(
        default="us-east-1",
        metadata={"description": "where it is; it decides on the partition too"},
    )

    def whose(self, place: str) -> str:
        """A place by a name that another account may have too, told apart from that."""
        who = self.role_arn or self.access_key_id or self.profile
        return f"{place}, as {who}" if who else place


def check_pair(bundle: Bundle) -> CertificatePublicKeyTypes:
    """The key of both. A load balancer with what is no pair would serve nothing at all.

    Raises:
        TargetError: key and certificate do not belong together.
    """
    if not pair_fingerprint(bundle.leaf_pem, bundle.key_pem.reveal()):
        why = "private key and certificate are no pair, or cannot be read"
        todo = f"`certd renew {bundle.name} --force` gets another"
        raise TargetError("nothing is sent to AWS", why, todo)
    return load_pem_x509_certificate(bundle.leaf_pem.encode()).public_key()


def once_known(call: Callable[[], T], unknown: type[Exception]) -> T:
    """Call until AWS knows what was just uploaded: not all its parts do so at once.

    Raises:
        ``unknown``: it did not for ``PATIENCE``.
    """
    until, pause = time.monotonic() + PATIENCE, PAUSE
    while True:
        try:
            return call()
        except unknown:
            if time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 5.0)
