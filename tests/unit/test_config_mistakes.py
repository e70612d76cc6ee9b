"""A wrong configuration: every mistake with its line, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from certd import config as configuration
from tests.configuring import AGREED, WWW, Write, wrong

pytestmark = pytest.mark.usefixtures("shelf_target")


def test_every_mistake_is_reported_at_once_in_the_order_of_lines(write: Write) -> None:
    path = write(
        """\
[certd]
contact = ["ops@example.com"]
wokers = 3

[ca.letsencrypt]
directory = "http://localhost/dir"
ca_bundle = "absent.pem"

[target.web]
type = "shelf"

[certificate.www]
names = [
  "www.example.com",
  "WWW.example.com.",  # the same
  "https://example.com",
]
chalenge = "http-01"
ca = ["letsencript"]
targets = "web"
"""
    )
    mistakes = [
        '2: [certd] contact: "ops@example.com" is not a contact URL; '
        'write "mailto:ops@example.com"',
        "3: [certd] wokers: unknown key; did you mean workers?",
        '6: [ca.letsencrypt] directory: "http://localhost/dir" is not an https URL: '
        'ACME is spoken over HTTPS only; write it as "https://ca.example/directory"',
        f'7: [ca.letsencrypt] ca_bundle: "{path.absolute().parent}/absent.pem" cannot be used: '
        "No such file or directory; correct the path, or put the CA's root there",
        '9: [target.web] path: missing: a shelf stands somewhere; add path = "/srv/{name}"',
        "15: [certificate.www] names: www.example.com is there twice; leave one of them out",
        '16: [certificate.www] names: "https://example.com" is neither a name nor an IP address; '
        "write it bare, without scheme, port, path or space: "
        '"www.example.com", "2001:db8::1"',
        "18: [certificate.www] chalenge: unknown key; did you mean challenge?",
        '19: [certificate.www] ca: no such CA: "letsencript"; did you mean letsencrypt?',
        "20: [certificate.www] targets: expected a list of strings, found a string; "
        'write targets = ["web"]',
    ]
    assert wrong(path) == [f"certd.toml:{mistake}" for mistake in mistakes]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("foo = 1", "1: foo: unknown key; known here", id="a key in the root"),
        pytest.param(
            "[certificates.x]", "1: certificates: unknown table; did you mean cert", id="t"
        ),
        pytest.param("ca = 1", "1: [ca]: expected tables [ca.NAME], found an int", id="no tables"),
        pytest.param("[[certd]]", "1: [certd]: expected a table, found a list", id="array"),
        pytest.param("[[ca.x]]", "1: [ca.x]: expected a table, found a list", id="named array"),
        pytest.param(
            "[ca]\nagree_tos = true",
            "2: [ca.agree_tos]: expected a table, found a boolean: [ca] holds tables [ca.NAME] "
            "only; put it below a header [ca.NAME], or leave it out",
            id="a setting of a table that has no name",
        ),
        pytest.param(
            "certificate = 5",
            "1: [certificate]: expected tables [certificate.NAME], found an integer; write a table "
            "[certificate.NAME] for each certificate",
            id="a number for tables",
        ),
        pytest.param(
            "certd = 5",
            "1: [certd]: expected a table, found an integer; write a header in single brackets, "
            "and the settings below it",
            id="a number for a table",
        ),
        pytest.param("[ca]\nx = 1", "2: [ca.x]: expected a table, found an integer", id="no table"),
        pytest.param(
            "[certd]\nstate = 1", "2: [certd] state: expected a string, found an", id="int"
        ),
        pytest.param('[certd]\nstate = ""', '2: [certd] state: "" is not a path', id="no path"),
        pytest.param(
            '[certd]\nresolver = "ns.example.com:53"',
            '2: [certd] resolver: "ns.example.com:53" is not an address and a port: names are '
            "looked up there, its own too; write it as",
            id="a resolver's name",
        ),
        pytest.param(
            '[certd]\nresolver = "192.0.2.53"', '2: [certd] resolver: "192.0.2.53" is', id="bare"
        ),
        pytest.param(
            "[http]\nvalidation_port = 0", "2: [http] validation_port: 0 is out of", id="port"
        ),
        pytest.param(
            '[ca.letsencrypt]\nlimits = ["orders 2/1h", "failures 1/1h", "orders 3/1h"]',
            '2: [ca.letsencrypt] limits: "orders" is there twice; leave one of them out',
            id="a limit twice",
        ),
        pytest.param(
            f'{WWW}profile = "short lived"',
            '3: [certificate.www] profile: "short lived" is no name of a profile: it is up to 64 '
            'characters, and no spaces; write it as the CA does, as in "shortlived"',
            id="a profile with a space",
        ),
        pytest.param(
            f'{WWW}fallback_profile = "classic"',
            "3: [certificate.www] fallback_profile: there is no profile that it could take the "
            "place of; name it by profile, or add one",
            id="a fallback for nothing",
        ),
        pytest.param(
            f'{WWW}profile = "classic"\nfallback_profile = "classic"',
            '4: [certificate.www] fallback_profile: "classic" is the profile already; name another',
            id="a fallback that is none",
        ),
        pytest.param(
            f'{WWW}ca = ["local"]\nprofile = "classic"',
            "4: [certificate.www] profile: does not belong here: a CA of certd's own has no "
            "profiles, and one lifetime for all; leave it out",
            id="a profile of one's own CA",
        ),
        pytest.param(
            f'{WWW}ca = ["local"]\nlifetime = "7d"',
            "4: [certificate.www] lifetime: does not belong here: a CA of certd's own has no "
            "profiles, and one lifetime for all; leave it out, or write it in the CA's table",
            id="a lifetime of one certificate of one's own CA",
        ),
        pytest.param(
            f'{WWW}lifetime = "7 days"',
            '3: [certificate.www] lifetime: "7 days" is no lifetime: so many minutes, hours or '
            'days; write it as "7d"',
            id="a lifetime in words",
        ),
        pytest.param(
            f'{WWW}lifetime = "0d"', '3: [certificate.www] lifetime: "0d" is no lifetime', id="0"
        ),
        pytest.param(
            f'{WWW}key = ["ec-p256", "ec-p384"]',
            "3: [certificate.www] key: ec-p256 and ec-p384 are of one kind: a pair is for clients "
            "that take one kind and for those that take the other; write two of them, as in key",
            id="two of one kind",
        ),
        pytest.param(
            f'{WWW}key = ["rsa-2048"]',
            "3: [certificate.www] key: expected two types of key, found 1: one alone is no list",
            id="a pair of one",
        ),
        pytest.param(
            f'{WWW}key = ["rsa-2048", 5]',
            '3: [certificate.www] key: "5" is no type of key: certd knows ec-p256, ec-p384',
            id="a pair with a number",
        ),
        pytest.param(
            f'{WWW}key = ["ec-p256", "rsa-2048"]\n[certificate."www.rsa"]\nnames = ["a.example"]',
            '3: [certificate.www] key: the second of the pair would be named "www.rsa": there is '
            "a table of that name; rename one of them",
            id="a pair whose second has a table",
        ),
        pytest.param(
            f'{WWW}key = ["ec-p256", "rsa-2048"]\ntargets = ["web"]\n'
            '[target.web]\ntype = "disk"\npath = "/srv/www"',
            '4: [certificate.www] targets: "web" puts it in the place of "www": /srv/www has '
            "room for one certificate only; write {name}",
            id="a pair in one place",
        ),
        pytest.param("[certd]\nworkers = 0", "2: [certd] workers: 0 is out of range", id="range"),
        pytest.param(
            "[certd]\nworkers = 2.5", "2: [certd] workers: expected a whole number, found a", id="f"
        ),
        pytest.param(
            '[certd]\nworkers = "4"',
            "2: [certd] workers: expected a whole number, found a string; write workers = 4",
            id="a number in quotes",
        ),
        pytest.param(
            '[certd]\nstate = ["x"]',
            '2: [certd] state: expected a string, found a list; write state = "x"',
            id="a list of one",
        ),
        pytest.param(
            "[certd]\ncontact = [\n'mailto:x@y.z',\n2]",
            "4: [certd] contact: expected a string, found an integer",
            id="one element of a list",
        ),
        pytest.param(
            '[certd]\ncontact = "ops@example.com"',
            "2: [certd] contact: expected a list of strings, found a string; "
            'write a list of strings, as in contact = ["mailto:ops@example.com"]',
            id="what is advised is not the next mistake",
        ),
        pytest.param(
            '[certd]\ncontact = "mailto:a@b.example, mailto:c@d.example"',
            "2: [certd] contact: expected a list of strings, found a string; "
            'write contact = ["mailto:a@b.example", "mailto:c@d.example"]',
            id="a list in one string",
        ),
        pytest.param(
            "[certd]\ncontact = [['mailto:x@y.z']]",
            '2: [certd] contact: expected a string, found a list; write "mailto:x@y.z"',
            id="a list in a list",
        ),
        pytest.param(
            "[certd]\nstate = 2026-01-01",
            "2: [certd] state: expected a string, found a date or time; write a string, as in "
            'state = "/var/lib/certd"',
            id="a date",
        ),
        pytest.param(
            '[certd]\nworkers = "many"',
            "2: [certd] workers: expected a whole number, found a string; write a whole number, "
            "as in workers = 8",
            id="a word for a number",
        ),
        pytest.param(
            '[ca.letsencrypt]\nagree_tos = "yes"',
            "2: [ca.letsencrypt] agree_tos: expected true or false, found a string; "
            "write true or false, as in agree_tos = true",
            id="yes",
        ),
        pytest.param(
            '[ca.letsencrypt]\ncrl = "no"',
            "2: [ca.letsencrypt] crl: expected true or false, found a string; write true or",
            id="a word for a boolean",
        ),
        pytest.param(
            '[ca.letsencrypt]\nroots = "absent.pem"', "2: [ca.letsencrypt] roots: ", id="no roots"
        ),
        pytest.param(
            '[ca.letsencrypt]\npreferred_chain = " "',
            '2: [ca.letsencrypt] preferred_chain: " " is no name of a root or an intermediate; '
            'write it as its CA does: "ISRG Root X2"',
            id="a chain without a name",
        ),
        pytest.param(
            f'[certificate.www]\npreferred_chain = "{"AB:" * 19}AB"\nnames = ["a.example"]',
            f'2: [certificate.www] preferred_chain: "{"AB:" * 19}AB" is no SHA-256 fingerprint: it '
            "has 40 hexadecimal digits instead of 64; take that of `openssl x509 -noout",
            id="a SHA-1 fingerprint",
        ),
        pytest.param(
            '[ca.letsencrypt]\nprefered_chain = "ISRG Root X2"',
            "2: [ca.letsencrypt] prefered_chain: unknown key; did you mean preferred_chain?",
            id="a chain misspelt",
        ),
        pytest.param(
            "[ca.letsencrpyt]\nagree_tos = true",
            "1: [ca.letsencrpyt] directory: missing: only the well-known CAs need none; "
            "did you mean letsencrypt? Otherwise add directory = ",
            id="a CA that is nearly well known",
        ),
        pytest.param(
            '[certd]\nstate = "~/state"',
            '2: [certd] state: "~/state" begins with ~: only a shell knows what ~ means; '
            "write the whole path",
            id="a shell's home",
        ),
        pytest.param(
            '[target.x]\ntype = "disk"\npath = "~/{name}"',
            '3: [target.x] path: "~/{name}" begins with ~: only a shell',
            id="a shell's home in a plugin's path",
        ),
        pytest.param(
            "[ca.own]\nagree_tos = true",
            "1: [ca.own] directory: missing: only the well-known CAs need none; add direct",
            id="an unknown CA without directory",
        ),
        pytest.param(
            '[ca.letsencrypt]\nagree_tos = "true"',
            "2: [ca.letsencrypt] agree_tos: expected true or false, found a string; write agree",
            id="true in quotes",
        ),
        pytest.param(
            '[ca.own]\ndirectory = "https://me:pw@x/"',
            "2: [ca.own] directory: a CA's URL has neither user nor fragment; leave",
            id="a password in a URL is not repeated",
        ),
        pytest.param('[http]\nlisten = ["::80"]', '2: [http] listen: "::80": bad IPv6', id="IPv6"),
        pytest.param(
            '[http]\nlisten = ["http://0.0.0.0:8080"]',
            '2: [http] listen: "http://0.0.0.0:8080" is not host:port: it has a scheme or a path; '
            'write "0.0.0.0:8080"',
            id="a URL to listen on",
        ),
        pytest.param('[http]\nlisten = ["x:0"]', '2: [http] listen: "x:0": bad port', id="port 0"),
        pytest.param('[http]\nlisten = ["*:80"]', '2: [http] listen: "*:80": * is not', id="star"),
        pytest.param(
            '[tls_alpn]\nlisten = ["0.0.0.0"]',
            '2: [tls_alpn] listen: "0.0.0.0" is not host',
            id="no",
        ),
        pytest.param(
            "[tls_alpn]\nlisten = []", "2: [tls_alpn] listen: the list is empty", id="none"
        ),
        pytest.param(
            '[tls_alpn]\nlisten = ["[::]:443", "[0::0]:443"]',
            '2: [tls_alpn] listen: "[::]:443" is there twice',
            id="one TLS address twice",
        ),
        pytest.param(
            "[tls_alpn]\nvalidation_port = 65536",
            "2: [tls_alpn] validation_port: 65536 is out of",
            id="TLS port",
        ),
        pytest.param(
            '[tls_alpn]\nwebroot = "."', "2: [tls_alpn] webroot: unknown key", id="TLS webroot"
        ),
        pytest.param(
            '[tls-alpn]\nlisten = ["0.0.0.0:443"]',
            "1: tls-alpn: unknown table; did you mean tls_alpn?",
            id="a hyphen in a table's name",
        ),
        pytest.param("[http]\nlisten = []", "2: [http] listen: the list is empty", id="no address"),
        pytest.param(
            '[http]\nlisten = ["[::]:80", "[0::0]:80"]',
            '2: [http] listen: "[::]:80" is there twice',
            id="one address twice",
        ),
        pytest.param(
            '[http]\nredirect = "http"', '2: [http] redirect: unknown: "http"', id="redirect"
        ),
        pytest.param(
            '[http]\nwebroot = "."\nredirect = "https"',
            "3: [http] redirect: webroot and redirect are both there",
            id="redirect beside a webroot",
        ),
        pytest.param(
            '[http]\nwebroot = "."\nlisten = ["[::]:80"]',
            "2: [http] webroot: listen and webroot are both there",
            id="two answerers",
        ),
        pytest.param("[target.x]", "1: [target.x] type: missing: the type says", id="no type"),
        pytest.param(
            '[target.x]\ntype = "shlef"\nmode = "x"',
            '2: [target.x] type: no such type: "shlef": installed: acm, apache, ',
            id="unknown type",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nverify = ["x"]',
            '4: [target.x] verify: "x" is not host:port; write it as "www.example.com:443"',
            id="endpoint",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nverify = ["https://[2001:db8::1]/x"]',
            '4: [target.x] verify: "https://[2001:db8::1]/x" is not host:port: it has a scheme or '
            'a path; write "[2001:db8::1]:443"',
            id="a URL for an endpoint",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nverify = ["https://x:y"]',
            '4: [target.x] verify: "https://x:y" is not host:port: it has a scheme or a path; '
            "write host and port only",
            id="a URL without sense",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nreload = "systemctl reload nginx"',
            "4: [target.x] reload: expected a list of strings, found a string; "
            'write reload = ["systemctl", "reload", "nginx"]',
            id="a shell's line",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nverify_timeout = inf',
            "4: [target.x] verify_timeout: inf is not accepted: expected a finite number",
            id="infinite",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nmode = "rw"',
            '4: [target.x] mode: "rw" is no number: digits only; write 0640',
            id="refused by the plugin, which begins with the key",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\ncopy = 10',
            "4: [target.x] copy: a shelf has nine boards; correct it",
            id="refused by the plugin, which names the key",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nwait = 13',
            "1: [target.x]: the shelf is superstitious: 13; wait longer",
            id="refused by the plugin as a whole",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nwait = 14',
            "1: [target.x]: the plugin refuses these settings: ValueError; correct the table",
            id="refused by the plugin in its own way",
        ),
        pytest.param(
            AGREED + "[certificate.www]",
            "3: [certificate.www] names: missing: a certificate is for one name at least; "
            'add names = ["www.example.com"]',
            id="no names",
        ),
        pytest.param(
            AGREED + "[certificate.www]\nnames = []",
            "4: [certificate.www] names: the list is empty; name at least one",
            id="empty names",
        ),
        pytest.param(
            AGREED + '[certificate.www]\nnames = ["*.example.com"]',
            "4: [certificate.www] names: *.example.com is a wildcard: CAs give one by a record in "
            'DNS only, not by http-01; write challenge = "dns-01", and a [dns] table that says who',
            id="wildcard",
        ),
        pytest.param(
            '[certificate.www]\nnames = ["*.example.com"]\nca = ["local", "letsencrypt"]',
            "2: [certificate.www] names: *.example.com is a wildcard",
            id="a wildcard, and one of its CAs would have to see a challenge",
        ),
        pytest.param(
            '[ca.own]\ntype = "locl"\ndirectory = "https://ca.example/dir"',
            '2: [ca.own] type: unknown: "locl"; did you mean local?',
            id="type of CA",
        ),
        pytest.param(
            '[ca.own]\ntype = "local"\ndirectory = "https://ca.example/dir"',
            "3: [ca.own] directory: does not belong here: a CA of certd's own has none; leave it",
            id="a local CA with a directory",
        ),
        pytest.param(
            "[ca.local]\nagree_tos = true",
            "2: [ca.local] agree_tos: does not belong here: a CA of certd's own has none; leave",
            id="terms of a local CA",
        ),
        *(
            pytest.param(
                f'[ca.own]\ntype = "local"\n{key} = {value}',
                f"3: [ca.own] {key}: does not belong here: a CA of certd's own has none; leave it",
                id=f"a local CA with {key}",
            )
            for key, value in (
                ("proxy", '"http://proxy:3128"'),
                ("min_tls", '"1.3"'),
                ("crl", "false"),
                ("source_address", '"127.0.0.1"'),
                ("preferred_chain", '"X"'),
                ("eab", '{ kid = "1", hmac = { file = "/dev/null" } }'),
            )
        ),
        pytest.param(
            "[ca.letsencrypt]\nlifetime = 3600",
            "2: [ca.letsencrypt] lifetime: does not belong here: an ACME server decides that by "
            'itself; leave it out, or write type = "local" for a CA of certd\'s own',
            id="lifetime at an ACME server",
        ),
        pytest.param(
            "[ca.local]\nlifetime = 31536000",
            "2: [ca.local] lifetime: 31536000 is out of range: it must be less than or equal to 77",
            id="lifetime",
        ),
        pytest.param(
            AGREED + WWW + 'usage = ["client"]',
            "5: [certificate.www] usage: client needs a CA of certd's own: public CAs certify "
            'servers; write ca = ["local"], or leave it out',
            id="a client's certificate of a public CA",
        ),
        pytest.param(
            WWW + 'ca = ["local"]\nusage = []',
            "4: [certificate.www] usage: the list is empty",
            id="no usage",
        ),
        pytest.param(
            WWW + 'ca = ["local"]\nusage = ["sever"]',
            '4: [certificate.www] usage: unknown: "sever"; did you mean server?',
            id="usage",
        ),
        pytest.param(
            WWW + 'ca = ["local"]\nusage = ["client", "client"]',
            '4: [certificate.www] usage: "client" is there twice',
            id="a usage twice",
        ),
        pytest.param(
            '[target.x]\ntype = "shelf"\npath = "x"\nverify = ["a:443"]\n'
            + WWW
            + 'ca = ["local"]\nusage = ["client"]\ntargets = ["x"]',
            "9: [certificate.www] targets: x is verified at its endpoints: no server presents a "
            "certificate that is for clients only; use a target without verify",
            id="a client's certificate at an endpoint",
        ),
        pytest.param(
            AGREED + WWW + 'challenge = "dns-01"',
            "3: [certificate.www] dns: missing: dns-01 needs to know who writes its records; there "
            "is no [dns] table; add a table [dns.NAME]",
            id="dns-01",
        ),
        pytest.param(
            AGREED + WWW + 'challenge = "http"',
            '5: [certificate.www] challenge: unknown challenge "http": known are http-01, ',
            id="unknown challenge",
        ),
        pytest.param(
            AGREED + WWW + 'challenge = ["http-01", "tls-alpn-1"]',
            '5: [certificate.www] challenge: unknown challenge "tls-alpn-1": known are '
            "http-01, tls-alpn-01, dns-01, dns-account-01 and dns-persist-01; "
            'write challenge = "tls-alpn-01"',
            id="an unknown one of several challenges",
        ),
        pytest.param(
            AGREED + WWW + 'challenge = ["http-01", "http-01"]',
            '5: [certificate.www] challenge: "http-01" is there twice; leave one of them out',
            id="a challenge twice",
        ),
        pytest.param(
            AGREED + WWW + "challenge = []",
            "5: [certificate.www] challenge: the list is empty; name at least one",
            id="no challenge",
        ),
        pytest.param(
            AGREED + WWW + "challenge = 1",
            "5: [certificate.www] challenge: expected a string, found an integer; put it in quotes",
            id="a number for a challenge",
        ),
        pytest.param(
            AGREED
            + WWW.replace("www.example.com", "*.example.com")
            + 'challenge = ["tls-alpn-01", "http-01"]',
            "4: [certificate.www] names: *.example.com is a wildcard: CAs give one by a record",
            id="a wildcard by neither",
        ),
        pytest.param(
            AGREED + WWW + 'key = "ec-p521"',
            '5: [certificate.www] key: unknown: "ec-p521"; did you mean ec-p',
            id="key",
        ),
        pytest.param(
            AGREED + WWW + "renew_after = 1",
            "5: [certificate.www] renew_after: 1 is out of range: it must be less than 1",
            id="renew_after",
        ),
        pytest.param(
            AGREED + WWW + 'targets = ["web"]',
            '5: [certificate.www] targets: no such target: "web"; correct it, or add a table '
            "[target.web]",
            id="unknown target",
        ),
        pytest.param(
            AGREED + WWW + "ca = []", "5: [certificate.www] ca: the list is empty", id="no CA"
        ),
        pytest.param(
            AGREED + WWW.replace(".www]", '."a/b"]'),
            '3: [certificate."a/b"]: "a/b" cannot be a name here: it becomes part of paths',
            id="a name with a slash",
        ),
        pytest.param(
            AGREED + WWW.replace(".www]", '."a..b"]'),
            '3: [certificate."a..b"]: "a..b" cannot be a name here',
            id="a name with two dots",
        ),
        pytest.param(
            AGREED + WWW.replace(".www]", "." + "a" * 65 + "]"),
            f"3: [certificate.{'a' * 65}]: ",
            id="a name of 65 characters",
        ),
        pytest.param(
            'certd = { contact = [],\tstate = "\\u0000\\n" }',
            '1: [certd] state: "\\u0000\\n" is not a path',
            id="nothing that a terminal obeys",
        ),
        pytest.param(
            "[certd]\nstate = ", "2: not TOML: Invalid value (end of the file); cor", id="syntax"
        ),
        pytest.param('x = "a', "1: not TOML: ", id="an open string"),
        pytest.param(
            "[target.x]\nmode = 0640 # rw",
            '2: not TOML: a number does not begin with 0; write it in quotes: mode = "0640"',
            id="an octal number",
        ),
        pytest.param(f"x = {'9' * 5000}", "1: not TOML: ", id="a number of 5000 digits"),
        pytest.param(f"x = {'[' * 5000}", "1: not a configuration: it is nested", id="nested"),
        pytest.param(
            f"[certd]\nworkers = 0x{'f' * 5000}", "2: [certd] workers: the number is", id="huge"
        ),
        pytest.param("\ufeffx = 1", "1: not TOML: the file begins with a byte order", id="BOM"),
    ],
)
def test_a_mistake(write: Write, text: str, line: str) -> None:
    [found] = wrong(write(text))
    assert found.startswith(f"certd.toml:{line}")
    assert found.isprintable()


def test_a_missing_file_says_what_to_do(write: Write) -> None:
    assert wrong(Path("/nowhere/certd.toml")) == [
        "no configuration at /nowhere/certd.toml: create it, see docs/configuration.md, "
        "or name another with -c"
    ]
    assert wrong(Path("~/certd.toml")) == [
        "no configuration at ~/certd.toml: only a shell knows what ~ means; write the whole path"
    ]


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    [line] = wrong(tmp_path)
    assert line.startswith(
        f"{tmp_path} cannot be read: Is a directory; name the file in it with -c"
    )
    assert "cannot be read" in wrong(Path("a\0b"))[0]


def test_bytes_that_are_not_utf_8_have_a_line(write: Write) -> None:
    path = write("")
    path.write_bytes(b'[certd]\n# caf\xe9\nstate = "x"\n')
    [line] = wrong(path)
    assert line == (
        "certd.toml:2: not UTF-8: byte 0xe9: invalid continuation byte; save the file as UTF-8"
    )


def test_a_secret_is_never_repeated(write: Write) -> None:
    table = '[target.x]\ntype = "shelf"\npath = "x"\n'
    lines = wrong(write(table + 'token = ["s3cret"]\ntokens = "s3cret"\n'))
    assert len(lines) == 2
    assert "s3cret" not in "".join(lines)
    config = configuration.load(write(table + 'token = "s3cret"\n'))
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param('[certificate]\nwww.kye = 1\nwww.names = ["x"]', 2, id="dotted keys"),
        pytest.param('[certificate]\nwww = { names = ["x"],\tkye = 1 }', 2, id="an inline table"),
        pytest.param('["certificate" . \'www\']\nnames=["x"]\n"kye"=1', 3, id="quoted headers"),
        pytest.param('["certific\\u0061te".www]\nnames=["x"]\n"k\\u0079e"=1', 3, id="escaped keys"),
        pytest.param(
            '[certificate.www]\nnames = [ # [x]\n  "x", # ]\n\n]\nkye = """\n[a]\n"""',
            6,
            id="a comment with a bracket",
        ),
        pytest.param(
            '[certd]\nstate = """\\\n[certificate.www]\nkye = 1\\\n"""\n'
            "[certificate.www]\nnames = ['x']\r\nkye = '''\n'''",
            8,
            id="long strings that look like tables",
        ),
        pytest.param(
            '[certd]\nstate = """a\\"""b"""""\n[certificate.www]\nnames = ["x"]\nkye = 1.5e3',
            5,
            id="quotes at the end of a long string",
        ),
        pytest.param(
            "[certificate.www]\nrenew_after = 0.5\nnames = ['x']\nkye = 2026-01-01 10:00:00",
            4,
            id="a date with a space",
        ),
    ],
)
def test_the_line_of_a_key(write: Write, text: str, line: int) -> None:
    [found] = wrong(write(f"{text}\n{AGREED}"))
    assert found == f"certd.toml:{line}: [certificate.www] kye: unknown key; did you mean key?"


def test_a_disk_target_without_a_path_is_told_how_to_write_one(write: Write) -> None:
    [line] = wrong(write('[target.web]\ntype = "disk"\n'))
    assert line.startswith("certd.toml:1: [target.web] path: missing: ")
