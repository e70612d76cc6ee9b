"""What targets at Google Cloud have in common: the account of ``certd_providers.googleaccount``,
with their errors, and operations that last.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from certd_providers.googleaccount import GoogleAccount, GoogleAPI

from certd.api import Bundle, ConfigError, TargetBusy
from certd_deploy.asking import as_target

PATIENCE = 60.0  # seconds that an operation is waited for; then the next try looks at it
PAUSE = 0.2  # seconds between the first two looks; then ever longer
ACCOUNT = (
    "a key (JSON) of a service account, or what Google's library finds by itself (the machine's "
    "service account, gcloud), with "
)

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_LABELLED = re.compile(r"[a-z0-9_-]{0,63}", re.ASCII)

T = TypeVar("T")


def check_labels(labels: Mapping[str, str]) -> None:
    for label, value in labels.items():
        if not _LABEL.fullmatch(label) or not _LABELLED.fullmatch(value):
            why = (
                'both have up to 63 small letters, digits, "_" and "-", and a label a letter first'
            )
            raise ConfigError(f'"{label}" = "{value}" is no label of Google\'s', why, "correct it")


@dataclass(frozen=True, slots=True)
class GoogleTarget(GoogleAccount):
    """An account, and the project of what is deployed to."""

    access: ClassVar[str] = "https://www.googleapis.com/auth/cloud-platform"
    version: ClassVar[str] = "v1"  # the beginning of every path

    @contextlib.contextmanager
    def cloud(
        self, url: str, bundle: Bundle | None = None, *hidden: str
    ) -> Iterator[tuple[GoogleAPI, str]]:
        """The API, and the path of the project there. No error has the bundle's key in it, or
        what else is to be ``hidden``.

        Raises:
            TargetBusy, TargetError: also for what is done with the API.
        """
        key = bundle.key_pem.reveal().splitlines()[1:-1] if bundle else []
        with as_target(), self.asking(url, *key, *hidden) as (api, project):
            yield api, f"/{self.version}/projects/{quote(project, '')}"

    def in_project(self, place: str) -> str:
        """Of what settings say; another credential may be that of another project."""
        whose = f"of {self.service_account}" if self.service_account else "of the machine"
        return f"{self.project or f'the project {whose}'}: {place}"


def until(look: Callable[[], T | None], what: str) -> T:
    """What is found once it is there.

    Raises:
        TargetBusy: it is not after ``PATIENCE``.
    """
    end, pause = time.monotonic() + PATIENCE, PAUSE
    while (found := look()) is None:
        if time.monotonic() + pause > end:
            why = f"it has not ended after {PATIENCE:.0f} s"
            raise TargetBusy(f"{what} lasts", why, "it is looked at again by itself")
        time.sleep(pause)
        pause = min(pause * 2, 5.0)
    return found


def pages(api: GoogleAPI, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
    """All of a list."""
    page: dict[str, Any] = {"nextPageToken": None}
    while "nextPageToken" in page:
        token = {"pageToken": page["nextPageToken"]} if page["nextPageToken"] else {}
        page = api.call("GET", path, params={**params, **token}).json
        yield from page.get(key, [])


def instant(text: str | None) -> datetime | None:
    """RFC 3339, of which Google writes up to nine digits of a second."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
