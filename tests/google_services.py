"""A Google service for the tests of targets: the fake, and what a test puts before it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import googleapiclient.discovery
import pytest
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

    @contextlib.contextmanager
    def open(self) -> Iterator[Service]:
        """It answers in here, and is looked at quickly; what it is asked is in the right form."""
        with pytest.MonkeyPatch.context() as patch, self.running():
            patch.setattr("certd_deploy.googlecloud.PAUSE", 0.001)
            self.google.url = self.url
            self.key = self.google.account(ROBOT, *self.least)
            yield self
        assert self.google.wrong == []

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
