"""The tables of distribution as pydantic checks them: this certd as a hub, and its clients."""

from __future__ import annotations

from pydantic import Field

from certd.config.catables import Table
from certd.config.fields import Host, Listen, RootBundle


class DistributionTable(Table):
    """Certificates for other machines, which get them from this certd."""

    listen: list[Listen] = Field(
        min_length=1,
        description="addresses at which the other machines ask",
        examples=[["192.0.2.1:8443"]],
    )
    certificate: str = Field(
        description="certificate of this certd that they are shown", examples=["hub"]
    )
    clients: str | None = Field(
        None,
        description="CA of certd's own whose client certificates are taken",
        examples=["local"],
    )
    roots: RootBundle | None = Field(
        None, description="or the roots that client certificates must lead to"
    )


class ClientTable(Table):
    """A machine that gets certificates from this certd."""

    certificates: list[str] = Field(
        min_length=1, description="what it may have, and nothing else", examples=[["www"]]
    )
    name: Host | None = Field(
        None,
        description="DNS name in its client certificate, if it is not the table's",
        examples=["web1.example.com"],
    )
