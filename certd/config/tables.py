"""The tables of a configuration file, as pydantic checks them. Strict: nothing is guessed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationInfo,
    create_model,
)
from pydantic_core import CoreSchema, core_schema

from certd.budget import Limit
from certd.config import identifiers
from certd.config.findings import shown
from certd.config.values import DEFAULT_CA, DEFAULT_STATE, Endpoint, HTTPSettings, ListenAddress
from certd.errors import ConfigError, NotHere
from certd.model import Identifier, KeyType
from certd.references import SecretReference, read_file
from certd.settings import PATH, REFERENCE, mistake, note_lacking

MOST_WORKERS = 64
_LARGEST_BUNDLE = 16 * 2**20  # bytes: a hundred times all the roots that browsers trust


def _checked(parse: Callable[[str], object]) -> GetPydanticSchema:
    """The annotation of a string that ``parse`` turns into a value, or refuses.

    In the JSON Schema it is a string; in the model it is what ``parse`` gives.
    """

    def check(text: str) -> object:
        try:
            return parse(text)
        except ConfigError as error:
            raise mistake(error) from None

    def schema(_source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            check,
            core_schema.str_schema(strict=True),
            serialization=core_schema.to_string_ser_schema(),
        )

    return GetPydanticSchema(schema)


def _challenge(text: str) -> str:
    if text == "http-01":
        return text
    if text == "dns-01":
        raise ConfigError(
            "dns-01 is not yet available in this version",
            "it arrives with the DNS providers",
            'write challenge = "http-01"',
        )
    what = f"unknown challenge {shown(text)}"
    raise ConfigError(what, "this version knows http-01", 'write challenge = "http-01"')


def _server(text: str) -> ListenAddress:
    host, port = identifiers.host_port(text)
    try:
        return ListenAddress(str(ip_address(host)), port)
    except ValueError:
        what = f"{shown(text)} is not an address and a port"
        todo = 'write it as "192.0.2.53:53"'
        raise ConfigError(what, "names are looked up there, its own too", todo) from None


def _root_bundle(path: Path) -> Path:
    try:
        if b"-----BEGIN CERTIFICATE-----" in read_file(path, _LARGEST_BUNDLE):
            return path
        why = "it holds no certificate in PEM form"
    except OSError as error:
        why = error.strerror or str(error)
    what = f"{shown(str(path))} cannot be used"
    raise mistake(ConfigError(what, why, "correct the path, or put the CA's root there"))


def _webroot(path: Path, info: ValidationInfo) -> Path:
    try:
        why = "" if stat.S_ISDIR(os.stat(path).st_mode) else "it is not a folder"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        what = f"{shown(str(path))} cannot be used"
        todo = "correct the path: it is the folder that the web server serves"
        note_lacking(info, "webroot", NotHere(what, why, todo))
    return path


Reference = Annotated[SecretReference, REFERENCE]
FilePath = Annotated[Path, PATH]
WebFolder = Annotated[Path, PATH, AfterValidator(_webroot)]
RootBundle = Annotated[Path, PATH, AfterValidator(_root_bundle)]
Name = Annotated[Identifier, _checked(identifiers.identifier)]
URL = Annotated[str, _checked(identifiers.https_url)]
Contact = Annotated[str, _checked(identifiers.contact)]
CALimit = Annotated[tuple[str, Limit], _checked(identifiers.limit)]
Challenge = Annotated[str, _checked(_challenge)]
Listen = Annotated[
    ListenAddress, _checked(lambda text: ListenAddress(*identifiers.host_port(text)))
]
Server = Annotated[ListenAddress, _checked(_server)]
Served = Annotated[Endpoint, _checked(lambda text: Endpoint(*identifiers.host_port(text)))]


class Table(BaseModel):
    """What every table has in common."""

    model_config = ConfigDict(
        strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class CertdTable(Table):
    """certd itself."""

    state: FilePath = Field(Path(DEFAULT_STATE), description="folder for the database")
    contact: list[Contact] = Field(
        [], description="URLs at which the CA may reach you", examples=[["mailto:ops@example.com"]]
    )
    resolver: Server | None = Field(
        None, description="DNS server to look names up at", examples=["192.0.2.53:53"]
    )
    seal: Reference | None = Field(
        None,
        description="where the key is that seals the secrets in the database",
        examples=[{"credential": "certd-seal"}],
    )
    workers: int = Field(8, ge=1, le=MOST_WORKERS, description="threads that work on orders")


class CATable(Table):
    """A CA; a well-known one needs no directory."""

    directory: URL | None = Field(
        None, description="URL of its ACME directory; known for the well-known names"
    )
    ca_bundle: RootBundle | None = Field(
        None, description="trust these roots and no others for this CA's own HTTPS"
    )
    agree_tos: bool = Field(False, description="you accept the CA's terms of service")
    staging: URL | None = Field(
        None, description="URL of its staging directory, for certd renew --dry-run"
    )
    limits: list[CALimit] | None = Field(
        None,
        description="its limits on orders, instead of those that are known of it",
        examples=[["orders 300/3h", "domain 50/7d", "same 5/7d", "failures 5/1h"]],
    )


class HTTPTable(Table):
    """The HTTP-01 responder."""

    listen: list[Listen] = Field(
        list(HTTPSettings().listen),
        min_length=1,
        description="addresses to listen on; sockets passed by systemd take their place",
    )
    webroot: WebFolder | None = Field(
        None, description="folder of a web server that answers instead"
    )
    redirect: Literal["https"] | None = Field(
        None, description="where certd sends whoever asks it for anything but a challenge"
    )
    validation_port: int = Field(
        80, ge=1, le=65535, description="port at which the CA asks; another for a test CA only"
    )


class TargetTable(Table):
    """A place that serves certificates. Its type has more settings."""

    type: str = Field(description="what kind of target it is", examples=["disk"])
    verify: list[Served] = Field(
        [],
        description="endpoints that must serve the new certificate",
        examples=[["www.example.com:443"]],
    )
    verify_timeout: float = Field(
        30.0, gt=0, le=3600, description="seconds until each endpoint must serve it"
    )


class CertificateTable(Table):
    """A certificate to keep valid."""

    names: list[Name] = Field(
        min_length=1,
        description="DNS names and IP addresses to certify",
        examples=[["www.example.com"]],
    )
    ca: list[str] = Field([DEFAULT_CA], min_length=1, description="CAs, in order of preference")
    challenge: Challenge = Field(
        "http-01",
        description="how control of the names is proved",
        json_schema_extra={"enum": ["http-01"]},
    )
    targets: list[str] = Field([], description="where it is deployed", examples=[["web"]])
    key: KeyType = Field("ec-p256", description="kind of private key")
    renew_after: float | None = Field(
        None, gt=0, lt=1, description="fraction of the lifetime, where the CA has no opinion"
    )
    self_check: bool | None = Field(
        None, description="look at its own challenges before the CA is told to"
    )


# The root of the file. The tables below ``many`` are named by the operator.
SINGLE: Mapping[str, type[Table]] = {"certd": CertdTable, "http": HTTPTable}
MANY: Mapping[str, type[Table]] = {
    "ca": CATable,
    "target": TargetTable,
    "certificate": CertificateTable,
}

# Why a setting is needed, for those that have no default.
NEEDED: Mapping[tuple[str, str], str] = {
    ("certificate", "names"): "a certificate is for one name at least",
    ("target", "type"): "the type says what kind of target it is",
}

_SAFE_NAME = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def root_model(targets: Any) -> type[BaseModel]:
    """The whole file as one model, for its JSON Schema; ``targets`` is any target's type."""
    definitions: dict[str, Any] = {
        "certd": (CertdTable, {}),
        "http": (HTTPTable, {}),
        "ca": (dict[_SAFE_NAME, CATable], {}),
        "target": (dict[_SAFE_NAME, targets], {}),
        "certificate": (dict[_SAFE_NAME, CertificateTable], {}),
    }
    assert set(definitions) == {*SINGLE, *MANY}  # noqa: S101 - one list of tables, not two
    return create_model("certd configuration", __base__=Table, **definitions)
