"""The configuration: what it becomes. What is wrong with one is in test_config_mistakes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certd import config as configuration
from certd.config import BadConfig, CASettings, Config, Endpoint, HTTPSettings, ListenAddress
from certd.errors import ConfigError
from certd.model import CertificateSpec, Identifier
from tests import shelf
from tests.configuring import AGREED, WWW, Write

REPOSITORY = Path(__file__).parents[2]
ROOT = "-----BEGIN CERTIFICATE-----\nnot looked into\n-----END CERTIFICATE-----\n"
pytestmark = pytest.mark.usefixtures("shelf_target")


def documented_example() -> str:
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    return page.split("```toml\n", 1)[1].split("```", 1)[0]


def test_the_documented_example_is_right(write: Write, tmp_path: Path) -> None:
    (tmp_path / "pebble-root.pem").write_text(ROOT)
    text = documented_example()
    config = configuration.load(write(text))
    web = config.targets["web"]
    assert config == Config(
        path=Path("certd.toml"),
        state=Path("/var/lib/certd"),
        contact=("mailto:ops@example.com",),
        workers=8,
        cas={
            "letsencrypt": CASettings(
                name="letsencrypt",
                directory="https://localhost:14000/dir",
                ca_bundle=tmp_path / "pebble-root.pem",
                agree_tos=True,
            )
        },
        http=HTTPSettings((ListenAddress("0.0.0.0", 80), ListenAddress("::", 80)), None),
        targets={"web": web},
        certificates={
            "www": CertificateSpec(
                name="www",
                identifiers=(
                    Identifier("dns", "www.example.com"),
                    Identifier("dns", "example.com"),
                ),
                cas=("letsencrypt",),
                targets=("web",),
            )
        },
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
    assert (web.type, web.verify, web.verify_timeout) == (
        "disk",
        (Endpoint("www.example.com", 443),),
        30.0,
    )


def test_the_least_configuration_has_every_default(write: Write) -> None:
    config = configuration.load(write(AGREED + WWW))
    assert config.state == Path("/var/lib/certd")
    assert config.http.listen == (ListenAddress("0.0.0.0", 80), ListenAddress("::", 80))
    [ca] = config.cas.values()
    assert ca.directory == "https://acme-v02.api.letsencrypt.org/directory"
    assert ca.staging == "https://acme-staging-v02.api.letsencrypt.org/directory"
    spec = config.certificates["www"]
    assert (spec.cas, spec.targets, spec.renew_after) == (("letsencrypt",), (), None)


def test_a_well_known_ca_needs_no_table(write: Write) -> None:
    """But the consent to its terms, before the first order."""
    other = WWW.replace("www]", 'eu]\nca = ["actalis", "letsencrypt"]')
    config = configuration.load(write(WWW + other))
    assert sorted(config.cas) == ["actalis", "letsencrypt"]
    assert config.cas["actalis"].directory == "https://acme-api.actalis.com/acme/directory"
    assert sorted(config.unaccepted) == ["actalis", "letsencrypt"]
    assert configuration.load(write(AGREED + WWW)).unaccepted == []
    assert configuration.load(write(AGREED + WWW + other)).unaccepted == ["actalis"]
    assert configuration.load(write(AGREED.replace("true", "false"))).unaccepted == []


def test_a_ca_of_our_own_needs_no_table_and_no_consent(write: Write) -> None:
    names = 'names = ["*.example.internal", "localhost"]'
    www = f'[certificate.www]\n{names}\nca = ["local"]\nusage = ["client", "server"]\n'
    config = configuration.load(write(www))
    assert config.cas["local"].lifetime == timedelta(days=7)
    assert config.unaccepted == []
    assert not config.is_challenged("www")
    assert not config.listens
    assert configuration.load(write('[http]\nredirect = "https"\n' + www)).listens
    assert configuration.load(write(AGREED + WWW.replace("www]", "pub]") + www)).listens
    assert config.certificates["www"].usages == ("server", "client")
    own = '[ca.local]\nlifetime = 3600\n[ca.own]\ntype = "local"\n'
    other = configuration.load(write(own + www))
    assert other.cas["local"].lifetime == timedelta(hours=1)
    assert other.cas["own"].local
    # Another lifetime is another CA; a contact is none of its business.
    assert other.table_digests["ca local"] != config.table_digests["ca local"]
    contact = '[certd]\ncontact = ["mailto:me@example.com"]\n'
    reached = configuration.load(write(contact + www))
    assert reached.table_digests["ca local"] == config.table_digests["ca local"]


def test_an_acme_server_may_be_called_local(write: Write) -> None:
    """As it might have been before there was one of our own."""
    table = '[ca.local]\ndirectory = "https://localhost:14000/dir"\nagree_tos = true\n'
    config = configuration.load(write(table + WWW + 'ca = ["local"]\n'))
    assert not config.cas["local"].local
    assert config.is_challenged("www")


@pytest.mark.parametrize(
    ("challenge", "found", "listens"),
    [
        pytest.param("", ("http-01",), True, id="none"),
        pytest.param('"http-01"', ("http-01",), True, id="HTTP-01"),
        pytest.param('["http-01"]', ("http-01",), True, id="a list of one"),
        pytest.param('"tls-alpn-01"', ("tls-alpn-01",), False, id="TLS-ALPN-01"),
        pytest.param(
            '["http-01", "tls-alpn-01"]', ("http-01", "tls-alpn-01"), False, id="one or the other"
        ),
    ],
)
def test_one_challenge_or_several_in_order(
    write: Write, challenge: str, found: tuple[str, ...], listens: bool
) -> None:
    """Where there is another way, a port 80 that cannot be had is no reason to stop."""
    line = f"challenge = {challenge}\n" if challenge else ""
    config = configuration.load(write(AGREED + WWW + line))
    assert config.certificates["www"].challenges == found
    assert config.listens is listens
    assert config.needs_http("www") is listens


def test_an_empty_file_is_a_configuration_without_certificates(write: Write) -> None:
    assert configuration.load(write("")).certificates == {}


def test_the_known_staging_service_is_not_that_of_another_directory(write: Write) -> None:
    path = write('[ca.letsencrypt]\ndirectory = "https://localhost:14000/dir"\nagree_tos = true\n')
    assert configuration.load(path).cas["letsencrypt"].staging is None
    path = write(path.read_text() + 'staging = "https://localhost:15000/dir"\n')
    assert configuration.load(path).cas["letsencrypt"].staging == "https://localhost:15000/dir"


@pytest.mark.parametrize(
    ("ca", "self_check", "looks"),
    [
        pytest.param("", "", True, id="a public CA"),
        pytest.param("", "self_check = false", False, id="not wanted"),
        pytest.param('directory = "https://localhost:14000/dir"', "", False, id="a test CA"),
        pytest.param(
            'directory = "https://localhost:14000/dir"', "self_check = true", True, id="wanted"
        ),
        pytest.param(
            'directory = "https://acme-staging-v02.api.letsencrypt.org/directory"',
            "",
            True,
            id="its staging",
        ),
    ],
)
def test_challenges_are_looked_at_first_for_public_cas(
    write: Write, ca: str, self_check: str, looks: bool
) -> None:
    tables = f"[ca.letsencrypt]\n{ca}\nagree_tos = true\n[certificate.www]\n{self_check}\n"
    config = configuration.load(write(f'{tables}names = ["www.example.com"]\n'))
    assert config.looks_first("www", "letsencrypt") is looks
    assert not config.looks_first("gone", "letsencrypt")


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text(ROOT)
    path = tmp_path / "certd.toml"
    path.write_text(
        f'certd.state = "state"\nhttp.webroot = "html"\n{AGREED}ca_bundle = "root.pem"\n'
        '[target.a]\ntype = "shelf"\npath = "certs/{name}"\n'
    )
    config = configuration.load(Path(os.path.relpath(path)))
    assert config.state == tmp_path / "state"
    assert config.http == HTTPSettings((), tmp_path / "html")
    assert config.cas["letsencrypt"].ca_bundle == tmp_path / "root.pem"
    assert config.targets["a"].plugin == shelf.Shelf(tmp_path / "certs/{name}")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param('[certd]\nstate = "x"\n', id="plain"),
        pytest.param(WWW + '  [ certd ] # here\r\nstate = "x"\n' + AGREED, id="in the middle"),
        pytest.param('certd.state = "x"', id="dotted"),
        pytest.param('certd = { state = "x" }', id="inline"),
        pytest.param('["certd"]\nstate = "x"', id="quoted"),
        pytest.param('["c\\u0065rtd"]\nstate = "x"', id="escaped"),
        pytest.param('[certd]\nstate = """x"""', id="a long string"),
        pytest.param(
            AGREED + '[certificate.www]\nnames = ["x"]\nkey = """\\\n  ec-p256\\\n  """\n'
            '[certd]\ncontact = [\n]\nstate = "x"',
            id="a long string elsewhere",
        ),
        pytest.param(
            "[target.certd]\ntype = 'shelf'\npath = '/etc/certd'\n[certd]\nworkers = 2", id="word"
        ),
    ],
)
def test_the_state_folder_is_what_a_whole_parse_says(write: Write, text: str) -> None:
    path = write(f"{text}\n{AGREED}" if "letsencrypt" not in text else text)
    config = configuration.load(path)
    assert configuration.state_folder(path) == (config.state, config.digest)


def test_the_state_folder_of_a_wrong_file_that_is_not_plain_is_an_error(write: Write) -> None:
    with pytest.raises(BadConfig, match="state"):
        configuration.state_folder(write("[certd]\nstate = 1"))
    with pytest.raises(BadConfig, match="no configuration"):
        configuration.state_folder(Path("absent.toml"))


def test_the_state_folder_needs_no_pydantic(write: Write) -> None:
    path = write('[certd]\nstate = "x"\n')
    code = (
        "import sys, pathlib, certd.config\n"
        "certd.config.state_folder(pathlib.Path(sys.argv[1]))\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


def test_ten_thousand_certificates_load_quickly(write: Write) -> None:
    tables = (WWW.replace("www", f"www{number}") for number in range(10_000))
    path = write(AGREED + "".join(tables))
    begin = time.process_time()
    assert len(configuration.load(path).certificates) == 10_000
    # Some 0.6 s, and most of it tomllib's: the limit only catches what is quadratic.
    assert time.process_time() - begin < 5
    begin = time.process_time()
    configuration.state_folder(path)
    assert time.process_time() - begin < 0.3


_VALUES = st.recursive(
    st.one_of(
        st.sampled_from(['""', '"x"', "'''\n'''", '"disk"', '"shelf"', '"http-01"', '"*.x.y"']),
        st.sampled_from(["0", "-1", "1e400", "nan", "true", "2026-01-01", "07:00:00", "0xff"]),
        st.text(max_size=8).map(lambda text: f"'{text}'"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda several: f"[{','.join(several)}]"),
        inner.map(lambda value: f"{{names = {value}}}"),
    ),
    max_leaves=4,
)
_KEYS = st.sampled_from(
    (
        "state",
        "contact",
        "workers",
        "directory",
        "ca_bundle",
        "agree_tos",
        "staging",
        "listen",
        "webroot",
        "type",
        "path",
        "mode",
        "verify",
        "verify_timeout",
        "names",
        "ca",
        "challenge",
        "targets",
        "key",
        "renew_after",
        "a.b",
        "'q'",
        "certd",
    )
)
_HEADERS = st.sampled_from(
    (
        "certd",
        "ca.x",
        "ca.letsencrypt",
        "http",
        "target.a",
        "target.b",
        "certificate.w",
        "certificate.''",
        "[certificate]",
        "[certificate.v]",
        "'certd'",
        "certificate",
        "x.y",
    )
).map("[{}]".format)
_LINES = st.one_of(_HEADERS, st.tuples(_KEYS, _VALUES).map(" = ".join), st.text(max_size=6))
_ANYTHING = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=64).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(_LINES, max_size=12).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=_ANYTHING)
def test_no_file_raises_anything_but_a_config_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "certd.toml"
    path.write_bytes(data)
    mistakes: list[str] = []
    try:
        config = configuration.load(path)
    except ConfigError as error:
        mistakes = str(error).split("\n")
    else:
        assert configuration.state_folder(path) == (config.state, config.digest)
    assert all(map(str.isprintable, mistakes))
