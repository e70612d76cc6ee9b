"""The tables of a configuration file, as pydantic checks them. Strict: nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from certd.config.catables import CATable, Table
from certd.config.clienttables import ClientTable, DistributionTable
from certd.config.endpoints import Served
from certd.config.fields import (
    Challenges,
    Command,
    Contact,
    DNSChoice,
    FilePath,
    Interval,
    Lifetime,
    Listen,
    Name,
    Profile,
    Rate,
    Reference,
    Server,
    WebFolder,
    Windows,
    Wish,
    Zone,
    one_or_by_name,
    one_or_list,
    one_or_more,
    or_two,
)
from certd.config.values import DEFAULT_CA, DEFAULT_STATE, HTTPSettings, TLSALPNSettings
from certd.model import SERVER, KeyType, Usage

MOST_WORKERS = 64


class CertdTable(Table):
    """certd itself."""

    state: FilePath = Field(Path(DEFAULT_STATE), description="folder for the database")
    contact: list[Contact] = Field(
        [], description="URLs at which the CA may reach you", examples=[["mailto:ops@example.com"]]
    )
    resolver: Server | None = Field(
        None, description="DNS server to look names up at", examples=["192.0.2.53:53"]
    )
    name_server_port: int = Field(
        53,
        ge=1,
        le=65535,
        description="port at which zones' own name servers are asked; another for tests only",
    )
    seal: Reference | None = Field(
        None,
        description="where the key is that seals the secrets in the database",
        examples=[{"credential": "certd-seal"}],
    )
    workers: int = Field(8, ge=1, le=MOST_WORKERS, description="threads that work on orders")


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


class TLSALPNTable(Table):
    """The TLS-ALPN-01 responder."""

    listen: list[Listen] = Field(
        list(TLSALPNSettings().listen),
        min_length=1,
        description="addresses to listen on while a challenge is open",
    )
    validation_port: int = Field(
        443, ge=1, le=65535, description="port at which the CA asks; another for a test CA only"
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
    look_every: Interval = Field(
        "6h",
        validate_default=True,
        description="how often it is looked at whether it still serves it, or never",
        examples=["1h"],
    )
    after: list[str] = Field(
        [],
        description="targets of the same certificate that must serve it first",
        examples=[["canary"]],
    )
    window: Windows = Field(
        [],
        description="when it may be changed: days, times, time zone; one, or a list of them",
        examples=["Sun 02:00-05:00 Europe/Berlin"],
        json_schema_extra=one_or_list,
    )
    pre_hook: Command = Field(
        [],
        description="program and arguments run before each deployment, never a shell",
        examples=[["/usr/local/bin/drain", "web1"]],
    )
    post_hook: Command = Field(
        [],
        description="program and arguments run after each deployment, well or not",
        examples=[["/usr/local/bin/undrain", "web1"]],
    )
    hook_timeout: float = Field(
        60.0, gt=0, le=3600, description="seconds after which a hook is killed"
    )


class DNSTable(Table):
    """An account at a DNS provider. Its provider has more settings."""

    provider: str = Field(description="which DNS provider it is", examples=["rfc2136"])
    zones: list[Zone] = Field(
        [],
        description="names below which it may write, and nowhere else",
        examples=[["example.com"]],
    )
    ttl: int = Field(60, ge=1, le=86400, description="seconds for which others may keep a record")
    propagation: Literal["all", "quorum", "wait"] = Field(
        "all",
        description="which of the zone's name servers must have a record; wait: ask none of them",
    )
    timeout: float = Field(
        600.0, gt=0, le=86400, description="seconds in which they must have it, from the beginning"
    )
    settle: float = Field(
        2.0, ge=0, le=86400, description="seconds that are waited after they have it"
    )
    resolvers: list[Server] = Field(
        [],
        description="DNS servers to find its zones at, instead of [certd] resolver",
        examples=[["192.0.2.53:53"]],
    )
    rate: Rate | None = Field(
        None,
        description="how many changes it is asked for, instead of what is known of it",
        examples=["20/1m"],
    )


class CertificateTable(Table):
    """A certificate to keep valid."""

    names: list[Name] = Field(
        min_length=1,
        description="DNS names and IP addresses to certify",
        examples=[["www.example.com"]],
    )
    ca: list[str] = Field([DEFAULT_CA], min_length=1, description="CAs, in order of preference")
    challenge: Challenges = Field(
        ["http-01"],
        min_length=1,
        description="how control of the names is proved; several: in order of preference",
        examples=[["tls-alpn-01", "http-01"]],
        json_schema_extra=one_or_more,
    )
    dns: DNSChoice = Field(
        {},
        description="which [dns] tables write its records; several: by name, the longest first",
        examples=["main"],
        json_schema_extra=one_or_by_name,
    )
    targets: list[str] = Field([], description="where it is deployed", examples=[["web"]])
    key: KeyType = Field(
        "ec-p256",
        description="kind of private key; two of them are a pair of certificates",
        json_schema_extra=or_two,
    )
    csr: FilePath | None = Field(
        None, description="signing request of your own, whose key certd never sees"
    )
    usage: list[Usage] = Field(
        list(SERVER),
        min_length=1,
        description="what it is for; clients are certified by certd's own CA only",
        examples=[["server", "client"]],
    )
    renew_after: float | None = Field(
        None, gt=0, lt=1, description="fraction of the lifetime, where the CA has no opinion"
    )
    self_check: bool | None = Field(
        None, description="look at its own challenges before the CA is told to"
    )
    preferred_chain: Wish | None = Field(
        None,
        description="which of the CA's chains, instead of the CA's own preferred_chain",
        examples=["ISRG Root X2"],
    )
    profile: Profile | None = Field(
        None, description="profile of the CA's, where it has any", examples=["shortlived"]
    )
    fallback_profile: Profile | None = Field(
        None, description="profile where the CA does not have the other", examples=["tlsserver"]
    )
    lifetime: Lifetime | None = Field(
        None, description="how long it is to be valid, where the CA lets one ask", examples=["7d"]
    )
    reuse_key: bool = Field(False, description="a renewal keeps the private key")
    backup_key: bool = Field(
        False, description="make the next private key in advance, for its pin to be published"
    )


# The root of the file. The tables below ``many`` are named by the operator.
SINGLE: Mapping[str, type[Table]] = {
    "certd": CertdTable,
    "http": HTTPTable,
    "tls_alpn": TLSALPNTable,
    "distribution": DistributionTable,
}
MANY: Mapping[str, type[Table]] = {
    "ca": CATable,
    "target": TargetTable,
    "dns": DNSTable,
    "certificate": CertificateTable,
    "client": ClientTable,
}

# Why a setting is needed, for those that have no default.
NEEDED: Mapping[tuple[str, str], str] = {
    ("eab", "kid"): "the CA names the key that binds the account by it",
    ("eab", "hmac"): "the CA gives it together with kid",
    ("certificate", "names"): "a certificate is for one name at least",
    ("target", "type"): "the type says what kind of target it is",
    ("dns", "provider"): "it says whom to ask for records",
    ("distribution", "listen"): "it says where the other machines ask",
    ("distribution", "certificate"): "the other machines know this one by it",
    ("client", "certificates"): "a client gets what is named here, and nothing else",
}

_SAFE_NAME = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def root_model(targets: Any, providers: Any) -> type[BaseModel]:
    """The whole file as one model, for its JSON Schema; ``targets`` is any target's type."""
    definitions: dict[str, Any] = {
        "certd": (CertdTable, {}),
        "http": (HTTPTable, {}),
        "tls_alpn": (TLSALPNTable, {}),
        "ca": (dict[_SAFE_NAME, CATable], {}),
        "target": (dict[_SAFE_NAME, targets], {}),
        "dns": (dict[_SAFE_NAME, providers], {}),
        "certificate": (dict[_SAFE_NAME, CertificateTable], {}),
        "distribution": (DistributionTable | None, None),
        "client": (dict[_SAFE_NAME, ClientTable], {}),
    }
    assert set(definitions) == {*SINGLE, *MANY}  # noqa: S101 - one list of tables, not two
    return create_model("certd configuration", __base__=Table, **definitions)
