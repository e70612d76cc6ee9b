"""A server that does what Namecheap's API documents: ``setHosts`` replaces whatever was there."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from tests.fake_api import FakeAPI, Request, Response, text

ZONE = "example.co.uk"
USER, KEY, ADDRESS = "certd", "56b4c87ef4fd49cb96d915c0db68194d", "192.0.2.1"
TYPES = ["A", "AAAA", "ALIAS", "CAA", "CNAME", "MX", "MXE", "NS", "TXT", "URL", "URL301", "FRAME"]
Row = tuple[str, str, str, str, str]  # name, type, address, preference, TTL
THERE: list[Row] = [
    ("@", "MX", "mx1.example.net.", "10", "1800"),
    ("@", "MX", "mx2.example.net.", "20", "1799"),
    ("www", "A", "192.0.2.80", "10", "60"),
    ("@", "CAA", '0 issue "letsencrypt.org"', "10", "1800"),
    ("@", "TXT", "v=spf1 include:_spf.example.net ~all", "10", "1800"),
    ("key._domainkey", "TXT", 'v=DKIM1; p="MIGf<&>\'"; n=grün …', "10", "3600"),
    ("go", "URL301", "https://example.net/?a=1&b=2", "10", "1800"),
    ("www", "A", "192.0.2.81", "10", "60"),
    ("_acme-challenge", "TXT", "of somebody else", "10", "60"),
]


class Server(FakeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.hosts = list(THERE)
        self.more: dict[str, dict[str, str]] = {}  # what else is shown of a host, by its name
        self.mail: str | None = "MX"
        self.ours = "true"
        self.domains = [f"domain{number}.com" for number in range(210)] + [ZONE]
        self.type = "text/xml; charset=utf-8"
        self.meddle = 0  # times that somebody else changes the zone after it was read
        self.last = 0
        self.success = "true"

    def is_write(self, request: Request) -> bool:
        return request.form.get("Command", "").endswith("setHosts")

    def published(self, name: str) -> list[str]:
        label = name.removesuffix(ZONE).rstrip(".") or "@"
        return [
            address for host, kind, address, _, _ in self.hosts if (host, kind) == (label, "TXT")
        ]

    def answer(self, request: Request) -> Response:
        form = request.form
        assert request.method == "POST"
        assert KEY not in request.target
        if form.get("ApiUser") != USER or form.get("UserName") != USER or form.get("ApiKey") != KEY:
            return self.error("1011102", "API Key is invalid or API access has not been enabled")
        if form.get("ClientIp") != ADDRESS:
            return self.error("1011150", f"Invalid request IP: {form.get('ClientIp')}")
        match form.get("Command"):
            case "namecheap.domains.getList":
                return self.listed(int(form["Page"]), int(form["PageSize"]))
            case "namecheap.domains.dns.getHosts" | "namecheap.domains.dns.setHosts" as command:
                if (form["SLD"], form["TLD"]) != ("example", "co.uk"):
                    return self.error("2019166", "Domain not found")
                return self.got() if command.endswith("getHosts") else self.set(form)
        return self.error("1010104", "Parameter Command is missing")

    def listed(self, page: int, size: int) -> Response:
        assert 10 <= size <= 100
        part = self.domains[(page - 1) * size : page * size]
        rows = "".join(
            f'<Domain ID="{at}" Name="{name}" User="owner" IsExpired="false" IsOurDNS="true"/>'
            for at, name in enumerate([*part])
        )
        rows += '<Domain ID="x" Name="elsewhere.com" IsOurDNS="false"/>' if page == 3 else ""
        paging = (
            f"<TotalItems>{len(self.domains) + 1}</TotalItems><CurrentPage>{page}</CurrentPage>"
        )
        return self.said(
            f"<DomainGetListResult>{rows}</DomainGetListResult><Paging>{paging}</Paging>"
        )

    def got(self) -> Response:
        rows = ""
        for name, kind, address, preference, ttl in self.hosts:
            self.last += 1
            shown = {"HostId": str(self.last), "Name": name, "Type": kind, "Address": address}
            shown |= {
                "MXPref": preference,
                "TTL": ttl,
                "AssociatedAppTitle": "",
                "FriendlyName": "",
            }
            shown |= {"IsActive": "true", "IsDDNSEnabled": "false", **self.more.get(name, {})}
            rows += f"<host {_attributes(shown)} />"
        if self.meddle:
            self.meddle -= 1
            self.hosts.append((f"other{self.meddle}", "A", "192.0.2.99", "10", "1800"))
        result = {"Domain": ZONE, "IsUsingOurDNS": self.ours}
        result |= {} if self.mail is None else {"EmailType": self.mail}
        return self.said(
            f"<DomainDNSGetHostsResult {_attributes(result)}>{rows}</DomainDNSGetHostsResult>"
        )

    def set(self, form: dict[str, str]) -> Response:
        new: list[Row] = []
        while (name := form.get(f"HostName{len(new) + 1}")) is not None:
            number = len(new) + 1
            kind, address = form[f"RecordType{number}"], form[f"Address{number}"]
            ttl = form.get(f"TTL{number}", "1800")
            if kind not in TYPES or not 60 <= int(ttl) <= 60000 or not address:
                return self.error("2015280", "RecordType, Address or TTL is invalid")
            new.append((name, kind, address, form.get(f"MXPref{number}", "10"), ttl))
        assert len([key for key in form if key.startswith("HostName")]) == len(new)
        self.mail = form.get("EmailType", "NONE")
        self.hosts = [row for row in new if row[1] != "MX" or self.mail in ("MX", "OX", "GMAIL")]
        return self.said(f'<DomainDNSSetHostsResult Domain="{ZONE}" IsSuccess="{self.success}" />')

    def said(self, content: str) -> Response:
        return self.reply_xml("OK", "<Errors />", f"<CommandResponse>{content}</CommandResponse>")

    def error(self, number: str, text: str) -> Response:
        errors = f'<Errors><Error Number="{number}">{text}</Error></Errors>'
        return self.reply_xml("ERROR", errors, "<CommandResponse />")

    def reply_xml(self, status: str, errors: str, content: str) -> Response:
        space = 'xmlns="http://api.namecheap.com/xml.response"'
        body = f'<ApiResponse Status="{status}" {space}>{errors}<Warnings />{content}</ApiResponse>'
        return text(200, f'<?xml version="1.0" encoding="utf-8"?>\r\n{body}', self.type)


def _attributes(values: dict[str, str]) -> str:
    return " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
