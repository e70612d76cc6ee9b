"""Azure DNS: TXT records in the public zones of one resource group, by Microsoft's own library.

A record set is one thing with all its values. It is read, and written whole on condition that it is
still what was read (If-Match with its etag; If-None-Match where there was none), so that nobody's
value is lost; who was slower tries again.

Record sets: https://learn.microsoft.com/en-us/rest/api/dns/record-sets/create-or-update
Etags, and TXT in strings of 255: https://learn.microsoft.com/en-us/azure/dns/dns-zones-records
Limits: https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/request-limits-and-throttling
Roles: https://learn.microsoft.com/en-us/azure/dns/dns-protect-zones-recordsets
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
    plain,
)
from certd_providers.rest import CONNECT, READ
from certd_providers.tokens import Token, Tokens

STRING = 255  # bytes of one character-string
BUSY = frozenset((408, 409, 412, 429))  # 412: somebody else was faster
AGAIN = "it is tried again by itself"
NO_ZONE = frozenset(("ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound"))
# https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes
PASSING = re.compile("temporarily_unavailable|AADSTS(90006|90012|90033)")


def _check_address(text: str) -> None:
    if not re.fullmatch(r"https://[^/?#@\s]+/?", text):
        why = "a token goes there"
        raise ConfigError("it is no https:// address of a host", why, "correct it")


@dataclass(frozen=True, slots=True)
class Azure:
    """Azure DNS: the public zones of one resource group."""

    credential: ClassVar[str] = (
        "an app registration of Microsoft Entra ID with a client secret, or a managed identity of "
        'this machine; on the zone it has the role "DNS Zone Contributor", or one of your own with '
        "Microsoft.Network/dnsZones/TXT/read, …/TXT/write, …/TXT/delete; for a list of zones "
        "Microsoft.Network/dnsZones/read on the resource group"
    )
    rate: ClassVar[str] = "200/1m"  # 1,000 writes in five minutes

    subscription_id: str = field(
        metadata={
            "description": "subscription with the zones",
            "missing": "the zones are in one",
            "example": "00000000-0000-0000-0000-000000000000",
        }
    )
    resource_group: str = field(
        metadata={
            "description": "resource group with the zones",
            "missing": "the zones are in one",
            "example": "dns",
        }
    )
    tenant_id: str | None = field(
        default=None, metadata={"description": "tenant of the app registration"}
    )
    client_id: str | None = field(
        default=None,
        metadata={
            "description": "app registration, or which managed identity if there are several"
        },
    )
    client_secret: SecretReference | None = field(
        default=None,
        metadata={"description": "secret of the app registration; without it a managed identity"},
    )
    url: str = field(
        default="https://management.azure.com",
        metadata={
            "description": "address of the API, another in China say",
            "check": _check_address,
        },
    )
    authority: str = field(
        default="https://login.microsoftonline.com",
        metadata={"description": "where tokens come from", "check": _check_address},
    )
    _tokens: Tokens = field(init=False, repr=False, compare=False, default_factory=Tokens)

    def __post_init__(self) -> None:
        if (self.tenant_id is None) != (self.client_secret is None):
            why = "tenant_id and client_secret belong to an app registration"
            raise ConfigError("half of the credential is missing", why, "write both, or neither")
        if self.client_secret is not None and self.client_id is None:
            why = "client_secret is that of an app registration"
            raise ConfigError("client_id is missing", why, "write its application (client) ID")

    def add_txt(self, record: TxtRecord) -> None:
        with self._azure(record.zone) as dns:
            from azure.mgmt.dns import models

            found = self._record_set(dns, record)
            values = (found.txt_records or []) if found else []
            if record.value in map(_text, values):
                return
            new = found or models.RecordSet(ttl=record.ttl)
            text = record.value
            parts = [text[at : at + STRING] for at in range(0, len(text), STRING)]
            new.txt_records = [*values, models.TxtRecord(value=parts or [""])]
            self._write(dns, record, new)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._azure(record.zone) as dns:
            found = self._record_set(dns, record)
            values = (found.txt_records or []) if found else []
            others = [value for value in values if _text(value) != record.value]
            if found is None or others == values:
                return
            if others:
                found.txt_records = others
                self._write(dns, record, found)
            else:
                dns.record_sets.delete(*self._where(record), if_match=found.etag)

    def zones(self) -> Collection[str]:
        with self._azure() as dns:
            found = dns.zones.list_by_resource_group(self.resource_group)
            return {zone.name.lower() for zone in found if zone.zone_type == "Public"}

    def _where(self, record: TxtRecord) -> tuple[str, str, str, str]:
        return self.resource_group, record.zone, record.label or "@", "TXT"

    def _record_set(self, dns: Any, record: TxtRecord) -> Any | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return dns.record_sets.get(*self._where(record))
        except ResourceNotFoundError as error:
            if error.error is not None and error.error.code in NO_ZONE:
                raise
            return None

    def _write(self, dns: Any, record: TxtRecord, record_set: Any) -> None:
        known = record_set.etag
        condition = {"if_match": known} if known else {"if_none_match": "*"}
        made = dns.record_sets.create_or_update(*self._where(record), record_set, **condition)
        if made is None or made.etag is None:
            raise _strange("no record set")

    @contextlib.contextmanager
    def _azure(self, zone: str = "") -> Iterator[Any]:
        """The library's client, and its errors as ours. ``zone``: all is about this one."""
        try:
            from azure.core import exceptions
            from azure.mgmt.dns import DnsManagementClient

            secret = self.client_secret.fetch().reveal() if self.client_secret else ""
            credential = self._credential(secret)
        except ImportError:
            why, todo = "it is not installed", "pip install 'certd[azure]'"
            raise ProviderError("azure needs Microsoft's library", why, todo) from None
        client = DnsManagementClient(
            _Keeping(credential, secret, self._tokens),
            self.subscription_id,
            self.url,
            credential_scopes=[f"{self.url.rstrip('/')}/.default"],
            connection_timeout=CONNECT,
            read_timeout=READ,
            retry_total=0,  # the core tries again, and knows how often
            user_agent="certd",
        )
        try:
            with credential, client:
                yield client
        except exceptions.HttpResponseError as error:
            raise self._refused(error, secret, zone) from None
        except (exceptions.DeserializationError, AttributeError, TypeError) as error:
            raise _strange(type(error).__name__) from None  # its text holds the whole answer
        except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
            why = f"no answer ({type(error).__name__})"
            raise ProviderBusy("Azure is not able to now", why, AGAIN) from None

    def _credential(self, secret: str) -> Any:
        from azure import identity

        how: dict[str, Any] = {
            "connection_timeout": CONNECT,
            "read_timeout": READ,
            "retry_total": 0,
        }
        if self.tenant_id is None or self.client_id is None:
            return identity.ManagedIdentityCredential(client_id=self.client_id, **how)
        # The operator said which authority; no other is asked whether it is one.
        how |= {"authority": self.authority, "disable_instance_discovery": True}
        return identity.ClientSecretCredential(self.tenant_id, self.client_id, secret, **how)

    def _refused(self, error: Any, secret: str, zone: str) -> ProviderError:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import CredentialUnavailableError

        status = error.response.status_code if error.response is not None else 0
        code = f"{error.error.code}: " if getattr(error, "error", None) else ""
        text = f"HTTP {status}: {code}{error.message}" if status else str(error.message)
        said = plain(text.replace(secret, "***") if secret else text)
        if status in BUSY or status >= 500:
            after = error.response.headers.get("Retry-After", "")
            wait = float(after) if after.isascii() and after.isdigit() else None
            return ProviderBusy("Azure is not able to now", said, AGAIN, wait)
        if isinstance(error, CredentialUnavailableError):
            # The machine may just be starting: nobody has refused anything yet.
            return ProviderError("there is no credential for Azure", said, self.credential)
        if isinstance(error, ClientAuthenticationError) and not status:
            # By the library's wording whatever happened on the way to a token.
            cause = error.__cause__
            if PASSING.search(said) or not isinstance(cause, ValueError | None):
                return ProviderBusy("Azure is not able to now", said, AGAIN)
            if cause is not None:  # there is no such tenant, or it was not to be found just now
                return ProviderError("Azure gives no access token", said, self.credential)
        if status == 401 and self._tokens.refused():
            return ProviderBusy("Azure wants another access token", said, AGAIN)
        if status == 403:
            # Roles can be given for a single zone, but a subscription may be switched off too.
            about = zone if code == "AuthorizationFailed: " else ""
            return ProviderDenied("Azure refuses the change", said, self.credential, about)
        if status == 401 or isinstance(error, ClientAuthenticationError):
            return ProviderDenied("Azure refuses the credential", said, self.credential)
        return ProviderError("Azure refuses the change", said, "correct what it names")


class _Keeping:
    """A credential of the library, whose tokens are kept."""

    def __init__(self, credential: Any, secret: str, tokens: Tokens) -> None:
        self._credential = credential
        self._secret = secret
        self._tokens = tokens

    def get_token(self, *scopes: str, **how: Any) -> Any:
        from azure.core.credentials import AccessToken

        if how.get("claims"):  # none that is kept will do
            return self._credential.get_token(*scopes, **how)

        def fetch() -> Token:
            made = self._credential.get_token(*scopes, **how)
            return Token(Secret(made.token), float(made.expires_on))

        kept = self._tokens.get(self._secret, fetch)
        return AccessToken(kept.text.reveal(), int(kept.until))


def _strange(why: str) -> ProviderError:
    """A proxy's page, say, which says 200 too."""
    todo = "look whether url is its API; if it is, please report it"
    return ProviderError("Azure answers what certd does not understand", why, todo)


def _text(value: Any) -> str:
    return "".join(value.value or ())
