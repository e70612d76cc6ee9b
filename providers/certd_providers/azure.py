"""Azure DNS: TXT records in the public zones of one resource group, by Microsoft's own library.

A record set is one thing with all its values. It is read, and written whole on condition that it is
still what was read (If-Match with its etag; If-None-Match where there was none), so that nobody's
value is lost; who was slower tries again.

Record sets: https://learn.microsoft.com/en-us/rest/api/dns/record-sets/create-or-update
Etags, and TXT in strings of 255: https://learn.microsoft.com/en-us/azure/dns/dns-zones-records
Limits: https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/request-limits-and-throttling
Roles: https://learn.microsoft.com/en-us/azure/dns/dns-protect-zones-recordsets
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import TxtRecord
from certd_providers.azureaccount import AzureAccount, check_address, strange

STRING = 255  # bytes of one character-string
NO_ZONE = frozenset(("ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound"))


@dataclass(frozen=True, slots=True)
class Azure(AzureAccount):
    """Azure DNS: the public zones of one resource group."""

    credential: ClassVar[str] = (
        "an app registration of Microsoft Entra ID with a client secret, or a managed identity of "
        'this machine; on the zone it has the role "DNS Zone Contributor", or one of your own with '
        "Microsoft.Network/dnsZones/TXT/read, …/TXT/write, …/TXT/delete; for a list of zones "
        "Microsoft.Network/dnsZones/read on the resource group"
    )
    rate: ClassVar[str] = "200/1m"  # 1,000 writes in five minutes

    subscription_id: str = field(
        metadata={
            "description": "subscription with the zones",
            "missing": "the zones are in one",
            "example": "00000000-0000-0000-0000-000000000000",
        }
    )
    resource_group: str = field(
        metadata={
            "description": "resource group with the zones",
            "missing": "the zones are in one",
            "example": "dns",
        }
    )
    url: str = field(
        default="https://management.azure.com",
        metadata={
            "description": "address of the API, another in China say",
            "check": check_address,
        },
    )

    def add_txt(self, record: TxtRecord) -> None:
        with self._azure(record.zone) as dns:
            from azure.mgmt.dns import models

            found = self._record_set(dns, record)
            values = (found.txt_records or []) if found else []
            if record.value in map(_text, values):
                return
            new = found or models.RecordSet(ttl=record.ttl)
            text = record.value
            parts = [text[at : at + STRING] for at in range(0, len(text), STRING)]
            new.txt_records = [*values, models.TxtRecord(value=parts or [""])]
            self._write(dns, record, new)

    def remove_txt(self, record: TxtRecord) -> None:
        with self._azure(record.zone) as dns:
            found = self._record_set(dns, record)
            values = (found.txt_records or []) if found else []
            others = [value for value in values if _text(value) != record.value]
            if found is None or others == values:
                return
            if others:
                found.txt_records = others
                self._write(dns, record, found)
            else:
                dns.record_sets.delete(*self._where(record), if_match=found.etag)

    def zones(self) -> Collection[str]:
        with self._azure() as dns:
            found = dns.zones.list_by_resource_group(self.resource_group)
            return {zone.name.lower() for zone in found if zone.zone_type == "Public"}

    def _where(self, record: TxtRecord) -> tuple[str, str, str, str]:
        return self.resource_group, record.zone, record.label or "@", "TXT"

    def _record_set(self, dns: Any, record: TxtRecord) -> Any | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return dns.record_sets.get(*self._where(record))
        except ResourceNotFoundError as error:
            if error.error is not None and error.error.code in NO_ZONE:
                raise
            return None

    def _write(self, dns: Any, record: TxtRecord, record_set: Any) -> None:
        known = record_set.etag
        condition = {"if_match": known} if known else {"if_none_match": "*"}
        made = dns.record_sets.create_or_update(*self._where(record), record_set, **condition)
        if made is None or made.etag is None:
            raise strange("no record set")

    def _azure(self, zone: str = "") -> AbstractContextManager[Any]:
        return self.connected(self._client, zone)

    def _client(self, credential: Any, **how: Any) -> Any:
        from azure.mgmt.dns import DnsManagementClient

        scopes = [f"{self.url.rstrip('/')}/.default"]
        return DnsManagementClient(
            credential, self.subscription_id, self.url, credential_scopes=scopes, **how
        )


def _text(value: Any) -> str:
    return "".join(value.value or ())
