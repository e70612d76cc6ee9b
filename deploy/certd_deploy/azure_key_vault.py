"""Certificates in Azure Key Vault, by Microsoft's own library.

A bundle is imported as a new version of the one certificate, with its key. What reads the secret of
that name without a version takes it up by itself: Application Gateway within four hours, Front Door
within three days (with "latest" as its version), App Service within a day. Both gateways want
PKCS#12; Front Door takes RSA keys only. What is the newest version already is not imported again.

Import: https://learn.microsoft.com/en-us/rest/api/keyvault/certificates/import-certificate/import-certificate
Keys other than RSA: https://learn.microsoft.com/en-us/azure/key-vault/certificates/about-certificates
Content types: https://learn.microsoft.com/en-us/azure/key-vault/certificates/tutorial-import-certificate
Soft delete: https://learn.microsoft.com/en-us/azure/key-vault/general/soft-delete-overview
Roles: https://learn.microsoft.com/en-us/azure/key-vault/general/rbac-guide
Application Gateway: https://learn.microsoft.com/en-us/azure/application-gateway/key-vault-certs
Front Door: https://learn.microsoft.com/en-us/azure/frontdoor/front-door-custom-domain-https
Refusals: https://learn.microsoft.com/en-us/azure/key-vault/general/common-error-codes
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd_providers.azureaccount import AGAIN, AzureAccount, check_address
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from certd.api import (
    Bundle,
    ConfigError,
    Managed,
    Secret,
    TargetBusy,
    TargetError,
    failpoint,
    plain,
    render,
)
from certd_deploy.asking import as_target
from certd_deploy.naming import check_pattern, fitted

OURS = {"managed-by": "certd"}
FORMATS = {"pkcs12": "application/x-pkcs12", "pem": "application/x-pem-file"}
MOST = 127  # characters of a name
NOBODY = (None, "Unknown")  # issuers of what was imported
# Of a conflict (409) that passes by itself.
PASSING = frozenset(("ObjectIsBeingDeleted", "ObjectIsBeingRecovered", "ObjectIsBeingCreated"))
# Of a refusal (403) that is not about the role.
OTHER_REFUSALS = {
    "ForbiddenByFirewall": "let certd's address through the vault's firewall",
    "ForbiddenByConnection": "reach the vault by its private endpoint, or let public access in",
}


def check_certificate(pattern: str) -> None:
    says = f"it has up to {MOST} letters, digits and hyphens, and {{name}}"
    check_pattern(pattern, "[A-Za-z0-9-]+", MOST, says)


def check_format(form: str) -> None:
    if form not in FORMATS:
        raise ConfigError(f'there is no format "{form}"', "", f"write one of {', '.join(FORMATS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureKeyVault(AzureAccount):
    """Settings of a ``type = "azure_key_vault"`` target: a certificate of a vault for each."""

    credential: ClassVar[str] = (
        "an app registration of Microsoft Entra ID with a client secret, or a managed identity of "
        'this machine; on the vault it has the role "Key Vault Certificates Officer", or one of '
        "your own with Microsoft.KeyVault/vaults/certificates/read and …/certificates/import/action"
        " (where the vault has access policies: Certificates Get, List and Import)"
    )

    vault: str = field(
        metadata={
            "description": "address of the vault",
            "check": check_address,
            "missing": "the certificates go to one",
            "example": "https://web.vault.azure.net",
        }
    )
    certificate: str = field(
        default="certd-{name}",
        metadata={
            "description": "certificate to import to; {name} is that of certd's",
            "check": check_certificate,
        },
    )
    format: str = field(
        default="pkcs12",
        metadata={
            "description": 'what readers of its secret get: "pkcs12", as Application Gateway and '
            'Front Door want it, or "pem"',
            "check": check_format,
        },
    )
    tags: Mapping[str, str] = field(
        default_factory=dict,
        metadata={"description": "tags besides managed-by = certd and those that are there"},
    )

    def deploy(self, bundle: Bundle) -> None:
        name = self._name(bundle.name)
        with self._connected(bundle) as vault:
            found = _found(vault, name)
            if found is not None and _fingerprint(found) == bundle.certificate.fingerprint:
                return
            if found is not None and _issuer(found) not in NOBODY:
                why = f"Key Vault has it issued and renewed by {_issuer(found)}"
                what = f"{self._shown(name)} is not a certificate of certd's"
                raise TargetError(what, why, "write another certificate")
            self._import(vault, name, bundle, (found.properties.tags or {}) if found else {})
            failpoint("azure_key_vault: certificate imported")

    def serving(self, name: str) -> str:
        with self._connected() as vault:
            found = _found(vault, self._name(name))
            return _fingerprint(found) if found is not None else ""

    def place(self, name: str) -> str:
        return self._shown(self._name(name))

    def managed(self) -> Collection[Managed]:
        """Those that have an issuer, be it a CA of the vault's or the vault itself."""
        with self._connected() as vault:
            there = [one for one in vault.list_properties_of_certificates() if not _ours(one)]
            whole = [_found(vault, one.name) for one in there]
            return [
                _managed(one) for one in whole if one is not None and _issuer(one) not in NOBODY
            ]

    def _name(self, lineage: str) -> str:
        return fitted(self.certificate, lineage, MOST, "A-Za-z0-9-")

    def _shown(self, name: str) -> str:
        # Names there are told apart by their letters only.
        return f"{self.vault.rstrip('/')}/certificates/{name}".lower()

    @contextlib.contextmanager
    def _connected(self, bundle: Bundle | None = None) -> Iterator[Any]:
        key = bundle.key_pem.reveal().splitlines()[1:-1] if bundle else []
        with as_target(), self.connected(self._client, hidden=key) as vault:
            from azure.core.exceptions import HttpResponseError

            try:
                yield vault
            except HttpResponseError as error:
                if (explained := self._explained(error)) is None:
                    raise
                raise explained from None

    def _client(self, credential: Any, **how: Any) -> Any:
        from azure.keyvault.certificates import CertificateClient

        return CertificateClient(self.vault, credential, **how)

    def _import(self, vault: Any, name: str, bundle: Bundle, tags: Mapping[str, str]) -> None:
        from azure.keyvault.certificates import CertificatePolicy

        password = secrets.token_urlsafe(24) if self.format == "pkcs12" else None
        key = load_pem_private_key(bundle.key_pem.reveal().encode(), None)
        policy = CertificatePolicy(
            issuer_name="Unknown",
            content_type=FORMATS[self.format],
            exportable=True,  # or those who serve it could not have the key
            **_kind(key),
        )
        made = vault.import_certificate(
            name,
            _packed(bundle, key, password),
            password=password,
            policy=policy,
            tags={**tags, **OURS, **self.tags},
        )
        if _fingerprint(made) != bundle.certificate.fingerprint:
            raise ValueError("it has another certificate")

    def _explained(self, error: Any) -> TargetError | None:
        """What a refusal means, where more is to be said than the account's own words."""
        problem = getattr(error, "error", None)
        inner = (problem.innererror or {}).get("code", "") if problem is not None else ""
        said = plain(f"HTTP {error.status_code}: {inner}")
        if inner == "ObjectIsDeletedButRecoverable":
            vault = self.vault.partition("://")[2].partition(".")[0]
            at = f"--vault-name {vault} --name NAME"
            todo = (
                f"`az keyvault certificate recover {at}`, or `… purge {at}` where that is allowed; "
                "or write another certificate"
            )
            what = f"a certificate of that name was deleted in {self.vault}"
            return TargetError(what, f"{said}: its name is kept until it is purged", todo)
        if inner in PASSING:
            return TargetBusy("Azure is not able to now", said, AGAIN)
        if inner in OTHER_REFUSALS:
            return TargetError("Azure refuses the change", said, OTHER_REFUSALS[inner])
        return None


def _kind(key: Any) -> dict[str, Any]:
    """Of a policy: a key that is not RSA is refused without."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {"key_type": "EC", "key_curve_name": f"P-{key.curve.key_size}"}
    return {"key_type": "RSA", "key_size": key.key_size}


def _packed(bundle: Bundle, key: Any, password: str | None) -> bytes:
    """PEM or, with a password for the journey only, PKCS#12."""
    if password is not None:
        # Key Vault has not always read what has newer algorithms; TLS is what protects it.
        return render(bundle, "pkcs12-legacy", Secret(password))
    # It takes keys as PKCS#8 only.
    pkcs8: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pkcs8 + bundle.fullchain_pem.encode()


def _found(vault: Any, name: str) -> Any | None:
    """The newest version; None where there is none that readers may have."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found = vault.get_certificate(name)
    except ResourceNotFoundError as error:
        if error.error is None or error.error.code != "CertificateNotFound":
            raise
        return None
    if not found.cer:  # or no answer of a vault's
        raise ValueError("no certificate")
    return found


def _fingerprint(found: Any) -> str:
    if found.properties.enabled is False:  # its secret cannot be read
        return ""
    return hashlib.sha256(found.cer).hexdigest()


def _issuer(found: Any) -> str | None:
    issuer = found.policy.issuer_name if found.policy is not None else None
    return None if issuer is None else str(issuer)


def _ours(properties: Any) -> bool:
    return OURS.items() <= (properties.tags or {}).items()


def _managed(found: Any) -> Managed:
    try:
        leaf = x509.load_der_x509_certificate(bytes(found.cer))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(map(str, names.get_values_for_type(x509.DNSName)))
    except (ValueError, x509.ExtensionNotFound):
        shown = ()
    state = "disabled" if found.properties.enabled is False else "enabled"
    return Managed(found.id, shown, found.properties.expires_on, f"{state} ({_issuer(found)})")
