"""What plugins at Google Cloud have in common: who asks, its access token, and its errors as ours.

Errors: https://docs.cloud.google.com/apis/design/errors
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, ClassVar

from certd.api import (
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    plain,
)
from certd_providers.rest import API, READ, Answer
from certd_providers.timely import timely_session
from certd_providers.tokens import Token, Tokens

# With these reasons a 403 is not about the credential.
BUSY = frozenset(("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"))
OFF = frozenset(("accessNotConfigured", "SERVICE_DISABLED"))
_PERMISSION = re.compile(r"'([a-z]+\.\w+\.\w+)'")


@dataclass(frozen=True, slots=True)
class GoogleAccount:
    """An account and its project: whose settings they are says the class besides its own."""

    credential: ClassVar[str]
    service: ClassVar[str]  # for people
    access: ClassVar[str]  # what an access token is for

    service_account: SecretReference | None = field(
        default=None,
        metadata={"description": "the service account's key, as JSON; else the machine's account"},
    )
    project: str | None = field(
        default=None,
        metadata={"description": "the project, if it is not the credential's own"},
    )
    _tokens: Tokens = field(init=False, repr=False, compare=False, default_factory=Tokens)

    @contextlib.contextmanager
    def asking(self, url: str, *secrets: str) -> Iterator[tuple[GoogleAPI, str]]:
        """The API at an address, for one operation, and the project.

        Raises:
            ProviderBusy, ProviderDenied, ProviderError: also for what is done with the API.
        """
        secret = self.service_account.fetch().reveal() if self.service_account else ""
        kept = self._tokens.get(secret, lambda: self._token(secret))
        token, project = kept.text.reveal(), self.project or kept.project
        if not project:
            why = "the credential does not tell which"
            raise ProviderError(f"{self.service} needs a project", why, "write project")
        with API(
            self.service,
            url,
            headers={"Authorization": f"Bearer {token}"},
            permission=self.credential,
            explain=lambda body: str(body["error"]["message"]),
            secrets=[token, *secrets],
        ) as api:
            yield GoogleAPI(api, self._tokens, self.credential), project

    def _token(self, secret: str) -> Token:
        """Another access token, of this service account or the machine's."""
        try:
            import google.auth
            from google.auth import exceptions
            from google.auth.transport.requests import Request
        except ImportError:
            why, todo = "it is not installed", "pip install 'certd[google]'"
            raise ProviderError("google needs google-auth", why, todo) from None
        try:
            with timely_session() as session:
                ask: Any = functools.partial(Request(session), timeout=READ)
                if secret:
                    found, project = self._service_account(secret)
                else:
                    found, project = google.auth.default(scopes=[self.access], request=ask)
                found.refresh(ask)
                expiry = found.expiry  # without a zone, in UTC
                until = expiry.replace(tzinfo=UTC).timestamp() if expiry else 0.0
                return Token(Secret(str(found.token)), until, project)
        except exceptions.DefaultCredentialsError as error:
            # The machine may just be starting: nobody has refused anything yet.
            what = f"there is no credential for {self.service}"
            raise ProviderError(what, plain(str(error)), self.credential) from None
        except exceptions.GoogleAuthError as error:
            # What does not reach the machine's own metadata server is wrapped.
            lost = any(
                isinstance(one, exceptions.TransportError) for one in (error, error.__cause__)
            )
            if lost or getattr(error, "retryable", False):
                why = f"no access token ({type(error).__name__})"
                todo = "it is tried again by itself"
                raise ProviderBusy(f"{self.service} is not able to now", why, todo) from None
            why = plain(str(error.args[0]) if error.args else type(error).__name__)
            what = f"{self.service} refuses the credential"
            raise ProviderDenied(what, why, self.credential) from None

    def _service_account(self, secret: str) -> tuple[Any, str | None]:
        from google.oauth2 import service_account

        try:
            info = json.loads(secret)
            load: Any = service_account.Credentials.from_service_account_info
            found = load(info, scopes=[self.access])
        except (ValueError, TypeError, AttributeError):  # their texts may hold what was read
            why, todo = "it is no service account's key", "download it as JSON, and write where"
            raise ProviderError(f"{self.service} cannot be asked", why, f"{todo} it is") from None
        return found, info.get("project_id")


class GoogleAPI:
    """One API as one operation sees it."""

    def __init__(self, api: API, tokens: Tokens, credential: str) -> None:
        self._api = api
        self._tokens = tokens
        self._credential = credential

    def call(
        self, method: str, path: str, *, accept: Collection[int] = (), zone: str = "", **how: Any
    ) -> Answer:
        """One request, as ``API.call``. ``zone``: the only one that it is about."""
        answer = self._api.call(method, path, accept={*accept, 401, 403}, **how)
        if answer.status == 401 and self._tokens.refused():
            raise self._api.busy("HTTP 401: it wants another access token")
        if answer.status == 403 and (why := reasons(answer) & BUSY):
            busy = self._api.busy(f"HTTP 403: {', '.join(why)}: {_message(answer)}")
            if "quotaExceeded" in why:
                busy.next = "free some of it, or have the quota raised; it is tried again by itself"
            raise busy
        if answer.status in (401, 403):
            # Roles can be given for a single zone; the API is enabled for all, or not at all.
            self._api.zone = zone if reasons(answer) == {"forbidden"} else ""
            raise self._denied(answer)
        return answer

    def busy(self, why: str, retry_after: float | None = None) -> ProviderBusy:
        return self._api.busy(why, retry_after)

    def failure(self, answer: Answer) -> ProviderError:
        return self._api.failure(answer)

    def _denied(self, answer: Answer) -> ProviderError:
        error = self._api.failure(answer)
        if answer.status == 403 and reasons(answer) & OFF:
            error.next = "enable this API for the project (`gcloud services enable`)"
        elif answer.status == 403 and (found := _PERMISSION.search(_message(answer))):
            error.next = f"it lacks {found[1]}: give it {self._credential}"
        return error


def reasons(answer: Answer) -> set[str]:
    """Why it was refused, in the words of the older APIs and of the newer ones."""
    try:
        error = answer.json["error"]
        older = [one["reason"] for one in error.get("errors", [])]
        newer = [one["reason"] for one in error.get("details", []) if "reason" in one]
        return {str(reason) for reason in (*older, *newer)}
    except (KeyError, TypeError, AttributeError):
        return set()


def _message(answer: Answer) -> str:
    try:
        return str(answer.json["error"]["message"])
    except (KeyError, TypeError):
        return ""
