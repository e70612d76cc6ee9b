"""The table of a CA, as pydantic checks it; and what every table has in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from certd.config.fields import (
    URL,
    CALimit,
    FilePath,
    Origin,
    ProxyURL,
    Reference,
    RootBundle,
    Source,
    Wish,
)

SHORTEST_LEAF, LONGEST_LEAF = 60.0, 90 * 86400.0  # seconds


class Table(BaseModel):
    """What every table has in common."""

    model_config = ConfigDict(
        strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class EABTable(Table):
    """External account binding: which customer of the CA an account is to be of."""

    kid: str = Field(min_length=1, description="the CA's name for the key", examples=["kid-1"])
    hmac: Reference = Field(description="the key, base64url, as the CA gives it")


class CATable(Table):
    """A CA; a well-known one needs no directory."""

    type: Literal["acme", "local", "certd"] | None = Field(
        None, description="an ACME server, a CA of certd's own, or another certd"
    )
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
    preferred_chain: Wish | None = Field(
        None,
        description="which of its chains: name or SHA-256 fingerprint of a root or intermediate",
        examples=["ISRG Root X2"],
    )
    roots: RootBundle | None = Field(
        None, description="what its certificates lead to, beside this machine's roots"
    )
    crl: bool = Field(True, description="look at its lists of what it has revoked, by plain http")
    proxy: ProxyURL | None = Field(
        None, description="HTTP proxy by which it is asked", examples=["http://proxy:3128"]
    )
    proxy_password: Reference | None = Field(None, description="password of the proxy's user")
    source_address: Source | None = Field(
        None, description="address of this machine to ask from", examples=["192.0.2.7"]
    )
    min_tls: Literal["1.2", "1.3"] = Field("1.2", description="oldest TLS that is spoken with it")
    limits: list[CALimit] | None = Field(
        None,
        description="its limits on orders, instead of those that are known of it",
        examples=[["orders 300/3h", "domain 50/7d", "same 5/7d", "failures 5/1h"]],
    )
    lifetime: float = Field(
        604800.0,
        ge=SHORTEST_LEAF,
        le=LONGEST_LEAF,
        description="seconds for which a leaf of certd's own CA is valid",
    )
    eab: EABTable | None = Field(
        None, description="binds the account to a customer's, where the CA asks for that"
    )
    server: Origin | None = Field(
        None,
        description="where the other certd distributes its certificates",
        examples=["https://hub.example.com:8443"],
    )
    certificate: FilePath | None = Field(
        None, description="client certificate to be shown there, with its chain"
    )
    key: FilePath | None = Field(None, description="private key of that certificate")
