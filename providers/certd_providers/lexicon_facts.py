"""What certd must know of single providers of dns-lexicon; it does not say so itself.

Found by reading lexicon 3.25.2, provider by provider; providers/README.md says it in a table.
"""

from __future__ import annotations

from collections.abc import Mapping

# It finds out the provider from public DNS: whoever configures certd says which it is.
NOT_TAKEN = frozenset({"auto"})

# A second value replaces the first (duckdns, zonomi), or is silently left out (flexibleengine).
ONE_VALUE = frozenset({"duckdns", "flexibleengine", "zonomi"})

# A change writes all of a zone, or all TXT records in it, or a new version of the zone; or two
# at once fail, as with a PowerDNS on SQLite.
WHOLE_ZONE = frozenset(
    {"duckdns", "gandi", "gehirn", "godaddy", "hostingde", "httpnet", "joker", "localzone"}
    | {"namecheap", "online", "powerdns", "sakuracloud", "valuedomain", "wedos"}
)

# They list the records of other names too, whose names are alike, and would delete them; localzone
# does not find what it has quoted. Of these each record has a number of its own to name it by.
LOOSE = frozenset({"aliyun", "henet", "hover", "localzone", "namecheap", "rage4"})

# They send the name as it is, to a service that wants the label within the zone.
BY_LABEL = frozenset({"netcup", "njalla", "scaleway"})

# They want the value as it stands in a zone file.
QUOTED = frozenset({"ddns", "localzone"})

# Some refusals of the service are success to them.
SILENT = frozenset({"dnsmadeeasy", "dnspark", "easydns", "namesilo", "nsone"})

# The TTL is that of the zone: what is asked for one record would change all.
TTL_OF_ZONE = frozenset({"valuedomain"})

# The least that the service takes, in seconds, where it refuses less.
LEAST_TTL: Mapping[str, int] = {
    "aliyun": 600,
    "dnspod": 600,
    "inwx": 300,
    "ionos": 60,
    "luadns": 300,
    "namecom": 300,
    "namesilo": 3600,
    "porkbun": 600,
    "vultr": 120,
    "wedos": 300,
    "yandex": 900,
}

# Their SDKs find credentials on the machine by themselves.
NEEDS_NONE = frozenset({"oci", "route53"})

# Options that a provider cannot do without. Those with several ways to authenticate are left out.
_NEEDED_BY: Mapping[str, str] = {
    "auth_token": (
        "arvancloud cloudflare devnomads digitalocean dreamhost duckdns dynu flexibleengine "
        "gandi hetzner hostingde httpnet infomaniak joker linode linode4 memset misaka "
        "namesilo njalla nsone online rcodezero safedns timeweb valuedomain vercel vultr "
        "yandex yandexcloud zeit zonomi"
    ),
    "auth_username auth_token": (
        "cloudxns constellix dnsmadeeasy dnspark dnspod easydns glesys luadns namecom nfsn "
        "pointhq rage4"
    ),
    "auth_username auth_password": (
        "dinahosting dnsservices easyname euserv gransy gratisdns henet hover inwx"
    ),
    "auth_key auth_secret": "exoscale godaddy porkbun",
    "auth_token auth_secret": "gehirn sakuracloud",
    "auth_username auth_api_key": "softlayer transip",
    "auth_key_id auth_secret": "aliyun",
    "auth_api_key auth_secret_key": "aurora",
    "auth_client_id auth_client_secret auth_tenant_id auth_subscription_id resource_group": "azure",
    "auth_password": "cloudns",
    "auth_token ddns_server": "ddns",
    "auth_password auth_username endpoint": "directadmin",
    "auth_service_account_info": "googleclouddns",
    "auth_user auth_psw ib_host": "infoblox",
    "auth_key auth_password": "internetbs",
    "api_key": "ionos",
    "filename": "localzone",
    "auth_token auth_username": "namecheap",
    "auth_customer_id auth_api_key auth_api_password": "netcup",
    "auth_username auth_token auth_server": "onapp",
    "auth_entrypoint auth_application_key auth_application_secret auth_consumer_key": "ovh",
    "auth_username auth_password plesk_server": "plesk",
    "auth_token pdns_server": "powerdns",
    "secret_id secret_key": "qcloud",
    "auth_api_key": "regfish",
    "auth_secret_key": "scaleway",
    "auth_username auth_pass": "wedos",
    "auth_key": "zilore",
}

NEEDED: Mapping[str, tuple[str, ...]] = {
    name: tuple(options.split()) for options, names in _NEEDED_BY.items() for name in names.split()
}
