"""A Google service for the tests of targets: the fake, and what a test puts before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import googleapiclient.discovery
from google.oauth2.credentials import Credentials

from certd.api import SecretReference
from certd.references import reference
from tests.fake_api import FakeAPI
from tests.fake_google_account import Doorman
from tests.http_server import Request, Response

ROBOT = "certd@project-1.iam.gserviceaccount.com"


class Service(FakeAPI):
    def __init__(self, google: Doorman, *least: str) -> None:
        super().__init__()
        self.google = google
        self.least = least

    def concerns(self, request: Request) -> bool:
        return request.path != "/token"

    def answer(self, request: Request) -> Response:
        return self.google(request)

    def opened(self) -> None:
        """Once the address is known."""
        self.google.url = self.url
        self.key = self.google.account(ROBOT, *self.least)

    @property
    def account(self) -> SecretReference:
        return secret(self.key)

    @property
    def secrets(self) -> tuple[str, ...]:
        return json.loads(self.key)["private_key"].splitlines()[1], "token-1"

    def official(self, name: str, *may: str, path: str = "") -> Any:
        """Google's own client, as somebody who may do this."""
        self.google.may["reader"] = frozenset(may)
        self.google.tokens["of a reader"] = "reader"
        credentials: Any = Credentials
        return googleapiclient.discovery.build(
            name,
            "v1",
            credentials=credentials(token="of a reader"),
            client_options={"api_endpoint": self.url + path},
            static_discovery=True,
        )


def secret(text: str) -> SecretReference:
    return reference(text, Path("/"))
