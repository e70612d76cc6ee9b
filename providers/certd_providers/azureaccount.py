"""What plugins at Azure have in common: who asks, its token, and the library's errors as ours.

Credentials: https://learn.microsoft.com/en-us/python/api/overview/azure/identity-readme
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    plain,
)
from certd_providers.rest import CONNECT, READ
from certd_providers.timely import timely_session
from certd_providers.tokens import Token, Tokens

BUSY = frozenset((408, 409, 412, 429))  # 412: somebody else was faster
AGAIN = "it is tried again by itself"
# https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes
PASSING = re.compile("temporarily_unavailable|AADSTS(90006|90012|90033)")


def check_address(text: str) -> None:
    if not re.fullmatch(r"https://[^/?#@\s]+/?", text):
        why = "a token goes there"
        raise ConfigError("it is no https:// address of a host", why, "correct it")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureAccount:
    """An account: whose settings they are says the class that has them besides its own."""

    credential: ClassVar[str]

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
    authority: str = field(
        default="https://login.microsoftonline.com",
        metadata={"description": "where tokens come from", "check": check_address},
    )
    _tokens: Tokens = field(init=False, repr=False, compare=False, default_factory=Tokens)

    def __post_init__(self) -> None:
        if (self.tenant_id is None) != (self.client_secret is None):
            why = "tenant_id and client_secret belong to an app registration"
            raise ConfigError("half of the credential is missing", why, "write both, or neither")
        if self.client_secret is not None and self.client_id is None:
            why = "client_secret is that of an app registration"
            raise ConfigError("client_id is missing", why, "write its application (client) ID")

    @contextlib.contextmanager
    def connected(
        self, make: Callable[..., Any], zone: str = "", hidden: Collection[str] = ()
    ) -> Iterator[Any]:
        """The library's client, and its errors as ours.

        ``make``: imports it, and makes it of a credential and settings by name. ``zone``: all is
        about this one. None of ``hidden`` is in any error.

        Raises:
            ProviderBusy, ProviderDenied, ProviderError: also for what is done with the client.
        """
        try:
            from azure.core import exceptions

            secret = self.client_secret.fetch().reveal() if self.client_secret else ""
            credential = self._credential(secret)
            client = make(
                _Keeping(credential, secret, self._tokens),
                transport=_transport(),
                retry_total=0,  # the core tries again, and knows how often
                user_agent="certd",
            )
        except ImportError:
            why, todo = "it is not installed", "pip install 'certd[azure]'"
            raise ProviderError("azure needs Microsoft's library", why, todo) from None
        try:
            with credential, client:
                yield client
        except exceptions.HttpResponseError as error:
            raise self._refused(error, (secret, *hidden), zone) from None
        except (
            exceptions.DeserializationError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise strange(type(error).__name__) from None  # its text holds the whole answer
        except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
            why = f"no answer ({type(error).__name__})"
            raise ProviderBusy("Azure is not able to now", why, AGAIN) from None

    def _credential(self, secret: str) -> Any:
        from azure import identity

        how: dict[str, Any] = {"transport": _transport(), "retry_total": 0}
        if self.tenant_id is None or self.client_id is None:
            return identity.ManagedIdentityCredential(client_id=self.client_id, **how)
        # The operator said which authority; no other is asked whether it is one.
        how |= {"authority": self.authority, "disable_instance_discovery": True}
        return identity.ClientSecretCredential(self.tenant_id, self.client_id, secret, **how)

    def _refused(self, error: Any, hidden: Collection[str], zone: str) -> ProviderError:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import CredentialUnavailableError

        status = error.response.status_code if error.response is not None else 0
        code = f"{error.error.code}: " if getattr(error, "error", None) else ""
        text = f"HTTP {status}: {code}{error.message}" if status else str(error.message)
        for secret in filter(None, hidden):
            text = text.replace(secret, "***")
        said = plain(text)
        if status in BUSY or status >= 500:
            after = error.response.headers.get("Retry-After", "")
            wait = float(after) if after.isascii() and after.isdigit() else None
            return ProviderBusy("Azure is not able to now", said, AGAIN, wait)
        if not status and not isinstance(error, ClientAuthenticationError):
            return ProviderBusy("Azure is not able to now", "its answer broke off", AGAIN)
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


def _transport() -> Any:
    from azure.core.pipeline.transport import RequestsTransport

    return RequestsTransport(
        session=timely_session(), connection_timeout=CONNECT, read_timeout=READ
    )


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


def strange(why: str) -> ProviderError:
    """A proxy's page, say, which says 200 too."""
    todo = "look whether the address is that of its API; if it is, please report it"
    return ProviderError("Azure answers what certd does not understand", why, todo)
