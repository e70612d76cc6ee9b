"""What providers with an HTTP API have in common: a request, its time, what a refusal means."""

from __future__ import annotations

import email.utils
import json
import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from urllib3.util.ssl_ import create_urllib3_context

from certd.api import (
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    SecretReference,
    in_memory,
    plain,
)
from certd_providers.timely import TimelyAdapter, timely_session

CONNECT, READ = 10.0, 30.0  # seconds until it is reached, and of silence
LARGEST = 16 * 2**20  # bytes of an answer: a zone of 100,000 records
# Of one operation: what follows pages does not follow them for ever.
MOST = 1000  # requests
LONGEST = 3600.0  # seconds
DENIED = frozenset({401, 403})
# Not 409 and 423: what is in conflict, or locked, is for most vendors what is wrong, and stays so.
# Whose documentation says that it passes looks at its own words (hetzner, google).
BUSY = frozenset({408, 425, 429})


class Answer:
    """What came back: ``status``, ``text`` and what JSON is in it (None where there is none).

    ``raw`` is for what names its own encoding, as XML does.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], text: str, raw: bytes = b""
    ) -> None:
        self.status = status
        self.headers = headers
        self.text = text
        self.raw = raw

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class API:
    """One provider's HTTP API, as one operation sees it; ``with`` closes its connection.

    ``permission`` says what the credential must be allowed, and where it is given: it is the
    advice where it is refused. Once ``zone`` is set, a 403 is about that zone only. ``explain``
    finds the vendor's own words in an answer. None of ``secrets`` is in any error, whatever the
    vendor repeats. ``roots`` is a file with the only roots that its server's certificate may lead
    to; ``client`` is certd's own, with its key.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        permission: str = "",
        explain: Callable[[Any], str] | None = None,
        secrets: Collection[str] = (),
        denied: Collection[int] = DENIED,
        roots: Path | None = None,
        client: SecretReference | None = None,
    ) -> None:
        self._name = name
        self._url = url.rstrip("/")
        self._permission = permission
        self._explain = explain or _message
        self._secrets = [secret for secret in secrets if secret]
        self._denied = denied
        self._left = MOST
        self._until = time.monotonic() + LONGEST
        self.zone = ""
        # Of each request and not of the session, which the environment would overrule.
        self._verify = None if roots is None else str(roots)
        if not all(text.isascii() and text.isprintable() for text in (headers or {}).values()):
            # Refused here: the HTTP library's own exception would hold the header.
            raise self.denied("it has a character that no header can have")
        self._session = timely_session()
        self._session.auth = _unchanged  # or a ~/.netrc would replace our own
        self._session.headers.update({"User-Agent": "certd", **(headers or {})})
        if client is not None:
            self._session.mount("https://", _Shown(client))

    def __enter__(self) -> API:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._session.close()
        if isinstance(error, KeyError | IndexError | TypeError | AttributeError):
            # JSON of another shape: a proxy's page, or an API that has changed.
            what = f"{self._name} answers what certd does not understand"
            todo = "look whether url is its API; if it is, please report it"
            raise ProviderError(
                what, self._clean(f"{type(error).__name__}: {error}"), todo
            ) from error

    def get(self, path: str, **how: Any) -> Answer:
        return self.call("GET", path, **how)

    def call(
        self,
        method: str,
        path: str,
        *,
        accept: Collection[int] = (),
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        form: Mapping[str, Any] | None = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. ``accept``: what is no failure besides 2xx, such as 404.

        ``body`` is sent as JSON, ``form`` as a form, ``data`` as it is. ``path`` may be a whole
        URL of the same server: where the next page is.

        Raises:
            ProviderBusy, ProviderDenied, ProviderError: see ``certd.api.DNSProvider``.
        """
        answer = self._exchange(method, path, params, body, form, data, headers)
        if 200 <= answer.status < 300 or answer.status in accept:
            return answer
        raise self.failure(answer)

    def failure(self, answer: Answer, why: str = "") -> ProviderError:
        """What this answer means, for one that says with 200 that it failed too."""
        why = self._clean(why or self._words(answer))
        said = f"HTTP {answer.status}: {why}" if why else f"HTTP {answer.status}"
        if answer.status in self._denied:
            return self.denied(said, self.zone if answer.status == 403 else "")
        if answer.status in BUSY or answer.status >= 500:
            return self.busy(said, _retry_after(answer.headers))
        return ProviderError(f"{self._name} refuses the change", said, "correct what it names")

    def unknown(self, zone: str) -> ProviderError:
        """There is no such zone, or none that the credential may see."""
        what = f"{self._name} has no zone {zone} for this credential"
        return ProviderError(what, "", "name the provider that has it, or give the credential it")

    def denied(self, why: str, zone: str = "") -> ProviderDenied:
        what = f"{self._name} refuses the credential" + (f" for {zone}" if zone else "")
        return ProviderDenied(what, self._clean(why), self._permission, zone)

    def busy(self, why: str, retry_after: float | None = None) -> ProviderBusy:
        todo = "it is tried again by itself"
        return ProviderBusy(f"{self._name} is not able to now", self._clean(why), todo, retry_after)

    def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Any,
        form: Mapping[str, Any] | None,
        data: str | bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        url = path if path.startswith(f"{self._url}/") else self._url + path
        self._left -= 1
        if self._left < 0 or time.monotonic() > self._until:
            why = f"it wants more than {MOST} requests or {LONGEST:.0f} s for one thing"
            raise ProviderError(f"{self._name} does not end its answer", why, "please report it")
        try:
            with self._session.request(
                method,
                url,
                params=params,
                json=body,
                data=data if form is None else form,
                headers=headers,
                timeout=(CONNECT, READ),
                allow_redirects=False,  # a credential goes nowhere else
                stream=True,
                verify=self._verify,
            ) as response:
                raw = bytearray()
                for part in response.iter_content(65536):
                    raw += part
                    if len(raw) > LARGEST:
                        raise ProviderError(f"{self._name} does not end its answer")
                text = raw.decode(response.encoding or "utf-8", "replace")
                return Answer(response.status_code, response.headers, text, bytes(raw))
        except (UnicodeError, requests.exceptions.InvalidHeader):
            raise self.denied("it has a character that no header can have") from None
        except ValueError as error:
            what, why = f"{self._name} cannot be asked", f"no address ({type(error).__name__})"
            raise ProviderError(what, why, "correct url") from None
        except (requests.RequestException, OSError, LookupError) as error:
            # The texts of these hold the whole URL, and some credentials are in that.
            raise self.busy(f"no answer ({type(error).__name__})") from None

    def _words(self, answer: Answer) -> str:
        try:
            found = self._explain(answer.json)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            found = ""
        return found or answer.text  # shortened when no secret is in it any more

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return plain(text)


class _Shown(TimelyAdapter):
    """Shows a certificate to each server; its key is in no file of the disk's meanwhile."""

    def __init__(self, client: SecretReference) -> None:
        self._context = create_urllib3_context()
        pem = client.fetch()
        try:
            with in_memory(pem) as path:
                # A password, for else it would ask for one on the terminal.
                self._context.load_cert_chain(path, password="-")  # noqa: S106
        except (ssl.SSLError, ValueError):
            why, todo = f"{client}", "write the certificate, its chain and its key there, as PEM"
            raise ProviderError("the client certificate cannot be used", why, todo) from None
        super().__init__()

    def init_poolmanager(self, *positional: Any, **named: Any) -> None:
        super().init_poolmanager(*positional, ssl_context=self._context, **named)


def bearer(
    name: str,
    url: str,
    token: SecretReference,
    permission: str,
    *,
    scheme: str = "Bearer",
    explain: Callable[[Any], str] | None = None,
) -> API:
    """An API whose credential is one token, in the Authorization header."""
    secret = token.fetch().reveal()
    headers = {"Authorization": f"{scheme} {secret}"}
    return API(name, url, headers=headers, permission=permission, explain=explain, secrets=[secret])


class _NoQueries(logging.Filter):
    """urllib3 logs each request with its query, where some vendors want the credential."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                part.partition("?")[0] + "?…" if isinstance(part, str) and "?" in part else part
                for part in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_NoQueries())


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _message(body: Any) -> str:
    """Where most have their words."""
    for key in ("message", "detail", "error", "error_description", "title"):
        if isinstance(body, dict) and isinstance(body.get(key), str):
            return str(body[key])
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form (RFC 9110 section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
