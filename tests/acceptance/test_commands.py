"""Every command as its operator types it: output, exit status, and what is said of mistakes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench import many
from certd import config
from certd.cli.main import COMMANDS
from certd.known import Failure, TargetState
from certd.model import Certificate, CertificateSpec
from certd.secrets import Secret
from certd.store import Store
from certd.testing.pebble import Pebble
from tests.site import CERTD, Site
from tests.warm import shared

MANY = 10_000


class NoCA:
    """Stands for a CA in configurations of which none is asked."""

    directory = "https://127.0.0.1:9/dir"
    ca_bundle = Path("/nowhere")
    http_port = 9
    tls_port = 9
    resolver = None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", NoCA())
    del site.tables["ca.test"]["ca_bundle"]
    site.write()
    return site


@pytest.fixture
def issued(pebble: Pebble, tmp_path: Path) -> Site:
    """A site with one certificate, issued and deployed."""
    site = Site(tmp_path / "issued", pebble).disk()
    name = f"{secrets.token_hex(6)}.example.com"
    site.certificate("www", f"www.{name}", name, targets=["web"]).renew()
    return site


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """certd without ``-c``."""
    return shared().run([str(CERTD), *words], environment)


def result(done: subprocess.CompletedProcess[str], status: int = 0) -> str:
    """What a command that had a result printed; on a pipe there is nothing beside it."""
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def unprivileged(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as one whom the modes of files bind."""
    argv = site.argv(*words)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("not installed: setpriv")
        # Root without its privilege over files is like anybody, and may still use the program.
        bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        argv = [*bound, *argv]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def mistake(done: subprocess.CompletedProcess[str], status: int) -> str:
    """What a command without a result said."""
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    return done.stderr


# -- words on the command line ------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(command: str, option: str) -> None:
    said = result(run(*command.split(), option))
    assert said.startswith(f"Usage: certd {command}".strip())
    assert "--config" in said
    if not command:
        assert all(f"  {name} " in said for name in COMMANDS)


def test_the_version() -> None:
    assert re.fullmatch(r"certd \d+\.\d+\.\d+\n", result(run("--version")))


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "certd", "--version"], capture_output=True, text=True, timeout=60
    )
    assert result(done).startswith("certd ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["frobnicate"], "No such command 'frobnicate'", id="no such command"),
        pytest.param(["status", "--jsn"], "--jsn", id="no such option"),
        pytest.param(["status", "www"], "unexpected extra argument", id="one word too many"),
        pytest.param(["show"], "Missing argument 'NAME'", id="one word too few"),
        pytest.param(["show", "mail"], "no certificate is named 'mail'", id="show a stranger"),
        pytest.param(["renew", "mail"], "no certificate is named mail", id="renew a stranger"),
        pytest.param(["renew", "--force"], "--force needs names", id="force everything"),
        pytest.param(["-c"], "requires an argument", id="-c without a path"),
    ],
)
def test_wrong_uses_end_with_2(site: Site, words: list[str], said: str) -> None:
    site.certificate("www", "www.example.com")
    assert said in mistake(site.certd(*words), 2)


def test_no_command_shows_the_commands() -> None:
    done = run()
    assert done.returncode in (0, 2)
    assert "Usage: certd" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# -- output that cannot be written ---------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "why"),
    [
        pytest.param(">/dev/full", "No space left on device", id="full"),
        pytest.param(">&-", "Bad file descriptor", id="closed"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [["check"], ["check", "--schema"], ["plan"], ["renew"], ["status"], ["--help"], ["--version"]],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_told(
    site: Site, words: list[str], to: str, why: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {to}', "sh", *site.argv(*words)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert mistake(done, 1) == f"certd: cannot write the output: {why}\n"


def test_a_reader_that_leaves_is_no_mistake(site: Site) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            site.argv("check", "--schema"), stdout=write, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


# -- core dumps ---------------------------------------------------------------------------

UNDUMPED = """\
import ctypes, encodings.ascii, os, resource, sys
from certd.cli.main import main
from certd.secrets import Secret, in_memory
sys.argv = ["certd", "--version"]
try:
    main()
except SystemExit:
    pass
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
with in_memory(Secret("readable")) as path, open(path) as file:
    print(file.read(), len(os.listdir("/proc/self/fd")) > 3)
"""


def test_no_command_leaves_its_keys_in_a_core_dump() -> None:
    """And what is loaded by a path in /proc/self/fd can still be, whoever runs it."""
    done = subprocess.run(
        [sys.executable, "-c", UNDUMPED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[1:] == ["0 0", "readable True"], done


# -- Ctrl-C -------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [[str(CERTD)], [sys.executable, "-m", "certd"]], ids=len)
def test_ctrl_c_while_certd_is_imported(tmp_path: Path, entry: list[str]) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [*entry, "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# -- the configuration --------------------------------------------------------------------


def test_the_configuration_may_be_named_in_three_ways(site: Site, tmp_path: Path) -> None:
    path, nowhere = str(site.path), str(tmp_path / "nowhere.toml")
    for done in (
        run("-c", path, "check"),
        run("check", "-c", path),
        run("check", f"--config={path}"),
        run("check", CERTD_CONFIG=path),
        run("-c", path, "check", CERTD_CONFIG=nowhere),
        run("check", "-c", path, CERTD_CONFIG=nowhere),
    ):
        assert result(done).startswith(f"{path}: good: 0 certificates")
    assert nowhere in mistake(run("check", CERTD_CONFIG=nowhere), 2)


@pytest.mark.parametrize(
    "words", [["check"], ["plan"], ["renew"], ["run"], ["status"], ["show", "www"]]
)
def test_a_missing_configuration_is_told_by_every_command(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "nowhere.toml"
    said = mistake(run("-c", str(path), *words), 2)
    assert str(path) in said
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    said = mistake(run("-c", str(tmp_path), "check"), 2)
    assert said == f"{tmp_path} cannot be read: Is a directory; name the file in it with -c\n"


@pytest.mark.parametrize("words", [["check"], ["renew"], ["run"], ["status"], ["show", "www"]])
def test_a_configuration_that_may_not_be_read_is_told(site: Site, words: list[str]) -> None:
    site.path.chmod(0)
    said = mistake(unprivileged(site, *words), 2)
    assert said == (
        f"{site.path} cannot be read: Permission denied; give certd's user the right to read it, "
        "or name another with -c\n"
    )


@pytest.mark.parametrize(
    "words",
    [["check"], ["renew", "www"], ["renew", "--dry-run", "www"]],
    ids=lambda words: " ".join(words),
)
def test_what_this_machine_lacks_is_told_before_a_ca_is_asked(site: Site, words: list[str]) -> None:
    site.certificate("www", "www.example.com", targets=["web"]).disk(
        owner="nobody-of-that-name", reload=["no-such-program reload"]
    )
    lines = mistake(site.certd(*words), 2).splitlines()
    assert ["there is no user" in lines[0], "there is no program" in lines[1]] == [True, True]
    assert all(line.startswith(f"{site.path}:") for line in lines)
    assert not site.state.exists()


@pytest.mark.parametrize("words", [["status"], ["plan"], ["show", "www"]])
def test_what_this_machine_lacks_hides_nothing(site: Site, words: list[str]) -> None:
    site.certificate("www", "www.example.com", targets=["web"]).disk(group="none-of-that-name")
    assert "www" in result(site.certd(*words))


@pytest.mark.parametrize("words", [["check"], ["plan"], ["renew"], ["run"], ["status"]])
def test_every_mistake_is_told_with_its_line(site: Site, words: list[str]) -> None:
    site.certificate("www", "www.example.com", ca=["nobody"], keys="rsa-1024")
    lines = site.path.read_text().splitlines()
    said = mistake(site.certd(*words), 2)
    for key in ("ca = [", "keys ="):
        number = next(at for at, line in enumerate(lines, 1) if line.startswith(key))
        assert f"{site.path}:{number}: [certificate.www]" in said
    assert not site.state.exists()


def test_the_schema_is_json() -> None:
    assert "properties" in json.loads(result(run("check", "--schema")))


def test_a_ca_whose_terms_are_not_accepted_is_not_asked(pebble: Pebble, tmp_path: Path) -> None:
    """``check`` says so in time, the CA's own page is named, and the consent ends the wait."""
    site = Site(tmp_path / "site", pebble)
    site.certificate("www", f"{secrets.token_hex(6)}.example.com")
    site.tables["ca.test"]["agree_tos"] = False
    site.write()
    good, note = result(site.certd("check")).splitlines()
    assert good == f"{site.path}: good: 1 certificate for 1 name, 0 targets"
    assert note.startswith(f"{site.path}: [ca.test] agree_tos: the terms of service are not")
    said = result(site.certd("renew"), 1)
    assert "www: FAILED the terms of service of test are not accepted: " in said
    assert "data:text/plain,Do%20what%20thou%20wilt" in said
    assert "read them, then write agree_tos = true in [ca.test]" in said
    site.tables["ca.test"]["agree_tos"] = True
    site.write()
    assert len(result(site.certd("check")).splitlines()) == 1
    assert "www: issued, version 1" in result(site.certd("renew"))


# -- before anything was issued -----------------------------------------------------------


def test_looking_makes_nothing(site: Site) -> None:
    site.certificate("www", "www.example.com", "example.com", targets=["web"]).disk()
    assert "good: 1 certificate for 2 names, 1 target\n" in result(site.certd("check"))
    assert result(site.certd("plan")).splitlines() == [
        "www: issue for www.example.com, example.com at test: no certificate yet",
        "www: then deploy to web",
    ]
    table = result(site.certd("status"))
    assert re.search(r"^www +www\.example\.com \+1 +new +–", table, re.MULTILINE)
    assert "1 certificate; daemon not running" in table
    assert "none yet: `certd renew` gets it" in result(site.certd("show", "www"))
    entry = site.status()["www"]
    assert (entry["state"], entry["not_after"], entry["version"]) == ("new", None, None)
    assert not site.state.exists()


def test_an_empty_configuration(site: Site) -> None:
    assert "0 certificates" in result(site.certd("status"))
    assert "nothing to do now for 0 certificates" in result(site.certd("plan"))
    assert "no certificate is configured" in result(site.certd("renew"))
    assert result(site.certd("renew", "--quiet")) == ""


def test_a_ca_that_cannot_be_reached(site: Site, free_port: Callable[[], int]) -> None:
    site.tables["http"]["listen"] = [f"127.0.0.1:{free_port()}"]
    site.certificate("www", "www.example.com")
    said = result(site.certd("renew"), 1)
    assert "www: FAILED could not ask https://127.0.0.1:9/dir" in said
    assert result(site.certd("renew", "-q"), 1).startswith(said.rstrip())
    entry = site.status()["www"]
    assert entry["state"] == "failing"
    assert entry["failures"] == 1
    assert entry["renew_reason"] == "no certificate yet; failed once, waiting to try again"
    nothing, waiting = result(site.certd("plan")).splitlines()
    assert nothing == "nothing to do now for 1 certificate"
    assert re.fullmatch(
        r"failed and waiting: www; the next attempt is due 20.* \(in \d+ s\)", waiting
    )
    assert "failed once, waiting to try again" in result(site.certd("plan", "--all"))


def test_a_corrected_ca_is_asked_at_once_and_plan_knows(pebble: Pebble, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", pebble)
    right = dict(site.tables["ca.test"])
    site.tables["ca.test"]["directory"] = NoCA.directory
    site.certificate("www", f"{secrets.token_hex(6)}.example.com")
    wanted, now = config.load(site.path), datetime.now(UTC)
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest, wanted.table_digests)
        store.leases.claim(["www"])
        failure = Failure("the CA cannot be asked", "why", "next", now)
        store.lineages.keep_failure("www", failure, 2, now + timedelta(minutes=10))
    assert "failed and waiting: www" in result(site.certd("plan"))
    assert "not tried again before" in result(site.certd("renew"), 1)
    site.tables["ca.test"] = right
    site.write()
    (line,) = result(site.certd("plan", "--offline")).splitlines()
    assert line.startswith("www: issue for ")
    assert line.endswith(" at test: no certificate yet")
    assert "next attempt now" in result(site.certd("status"), 1)
    assert site.status()["www"]["renew_reason"] == "no certificate yet"
    assert "www: issued, version 1" in result(site.certd("renew"))


def test_show_of_a_changed_configuration(site: Site) -> None:
    """It reads one certificate, also where others have come and gone."""
    site.disk().certificate("www", "www.example.com", targets=["web"])
    wanted = config.load(site.path)
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest)
        store.leases.claim(["www"])
        _issue(store, wanted.certificates["www"])
    site.certificate("mail", "mail.example.com")
    assert re.search(r"^state +ok$", result(site.certd("show", "www")), re.MULTILINE)
    assert re.search(r"^state +new$", result(site.certd("show", "mail")), re.MULTILINE)
    assert "configured: mail, www" in mistake(site.certd("show", "web"), 2)


def test_a_certificate_that_comes_back_still_has_what_it_had(site: Site) -> None:
    site.disk().certificate("www", "www.example.com", targets=["web"])
    site.certificate("mail", "mail.example.com")
    wanted = config.load(site.path)
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest)
        store.leases.claim(["www"])
        _issue(store, wanted.certificates["www"])
        others = {"mail": wanted.certificates["mail"]}
        store.lineages.take_over(others, "www was taken out")
    assert site.status()["www"]["state"] == "ok"


def test_an_order_is_under_way_at_the_ca_once_its_url_is_known(site: Site) -> None:
    site.certificate("www", "www.example.com")
    wanted = config.load(site.path)
    names = wanted.certificates["www"].identifiers
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest)
        store.leases.claim(["www"])
        order = store.orders.begin(
            "www", "test", "dir", names, "ec-p256", Secret("key"), "csr", None, datetime.now(UTC)
        )
        entry = site.status()["www"]
        assert (entry["state"], entry["renew_reason"]) == ("new", "no certificate yet")
        store.orders.keep_url(order, "https://127.0.0.1:9/order/1")
        entry = site.status()["www"]
        assert entry["state"] == "issuing"
        assert entry["renew_reason"] == "an order is under way at the CA"


def test_a_dry_run_without_a_staging_directory(site: Site) -> None:
    site.certificate("www", "www.example.com")
    assert "www: FAILED test has no staging directory" in result(
        site.certd("renew", "--dry-run"), 1
    )


# -- with a certificate -------------------------------------------------------------------


def test_status_and_plan_of_a_certificate(issued: Site) -> None:
    bundle = issued.bundle("www")
    assert bundle is not None
    facts = bundle.certificate
    entry = issued.status()["www"]
    assert set(entry) >= {"name", "names", "state", "not_after", "renew_at", "renew_reason", "ca"}
    assert set(entry) >= {"targets", "last_error", "next_attempt", "serial", "version"}
    assert entry["state"] == "ok"
    assert entry["not_after"] == f"{facts.not_after:%Y-%m-%dT%H:%M:%SZ}"
    assert sorted(entry["names"]) == sorted(name.value for name in facts.identifiers)
    assert facts.not_before < datetime.fromisoformat(entry["renew_at"]) < facts.not_after
    [target] = entry["targets"]
    ahead = datetime.fromisoformat(target.pop("next_look")) - datetime.now(UTC)
    assert timedelta(hours=5) < ahead < timedelta(hours=7)
    assert target == {
        "name": "web",
        "state": "verified",
        "version": 1,
        "serving": 1,
        "last_error": None,
        "reason": None,
        "next_attempt": None,
    }
    table = result(issued.certd("status"))
    assert "web verified" in table
    assert result(issued.certd("plan")).startswith("nothing to do now for 1 certificate; the next")
    assert "www: renew 20" in result(issued.certd("plan", "--all"))
    assert "www: not due before" in result(issued.certd("renew"))
    assert result(issued.certd("renew", "-q")) == ""


@pytest.mark.parametrize(
    ("names", "keys", "days_ago", "state"),
    [
        pytest.param(["www.example.com"], "ec-p256", 59, "ok", id="young"),
        pytest.param(["www.example.com"], "ec-p256", 61, "due", id="overdue"),
        pytest.param(["www.example.com"], "ec-p256", 91, "expired", id="expired"),
        pytest.param(["www.example.com", "new.example.com"], "ec-p256", 1, "due", id="a name more"),
        pytest.param(["www.example.com"], "rsa-2048", 1, "due", id="other keys"),
    ],
)
def test_what_is_due_is_not_ok(
    site: Site, names: list[str], keys: str, days_ago: float, state: str
) -> None:
    """It is no failure either: the exit status is that of a certificate that serves."""
    site.disk().certificate("www", "www.example.com", targets=["web"])
    wanted = config.load(site.path)
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest)
        store.leases.claim(["www"])
        _issue(store, wanted.certificates["www"], days_ago)
    site.certificate("www", *names, key=keys, targets=["web"])
    table = result(site.certd("status"), int(state == "expired"))
    assert re.search(rf"^www +www\.example\.com( \+1)? +{state} ", table, re.MULTILINE)
    assert site.status()["www"]["state"] == state
    acts = "www: renew for www.example.com" in result(site.certd("plan"))
    assert acts == (state != "ok")


def test_plan_has_the_retry_of_a_target_and_the_question_for_the_window(site: Site) -> None:
    site.certificate("www", "www.example.com", targets=["web"]).disk()
    now = datetime.now(UTC)
    failure = Failure("the disk is full", "why", "make room", now)
    wanted = config.load(site.path)
    with contextlib.closing(Store.open(site.state)) as store:
        store.lineages.take_over(wanted.certificates, wanted.digest)
        store.leases.claim(["www"])
        _issue(store, wanted.certificates["www"])
        again = now + timedelta(minutes=10)
        store.lineages.keep_target(
            "www", TargetState("web", "failed", 1, None, 1, now, again, failure)
        )
        store.lineages.keep_renewal("www", None, again, 0)
        store.settle()
        nothing, waiting = result(site.certd("plan")).splitlines()
        assert nothing.startswith("nothing to do now for 1 certificate; the next renewal is due")
        attempt = f"{again:%Y-%m-%d %H:%M}Z (in 10 min)"
        assert waiting == f"failed and waiting: www; the next attempt is due {attempt}"
        store.lineages.keep_renewal("www", None, now, 0)
        store.settle()
        assert result(site.certd("plan")).splitlines() == [
            "www: ask test when to renew: the CA may have changed its renewal window",
            waiting,
        ]


def test_show_agrees_with_openssl(issued: Site) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("not installed: openssl")
    bundle = issued.bundle("www")
    assert bundle is not None
    shown = result(issued.certd("show", "www")).splitlines()
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown)

    def openssl(*words: str, given: bytes = bundle.leaf_pem.encode()) -> bytes:
        return subprocess.run(
            ["openssl", *words], input=given, capture_output=True, check=True
        ).stdout

    leaf = openssl("x509", "-noout", "-serial", "-fingerprint", "-sha256", "-enddate").decode()
    serial, fingerprint, end = (line.partition("=")[2] for line in leaf.splitlines())
    assert facts["serial"] == serial.lower()
    assert facts["fingerprint"] == f"SHA-256 {fingerprint.replace(':', '').lower()}"
    until = datetime.strptime(end, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    assert facts["not after"] == f"{until:%Y-%m-%d %H:%M}Z"
    public = openssl("x509", "-noout", "-pubkey")
    der = openssl("pkey", "-pubin", "-outform", "DER", given=public)
    digest = openssl("dgst", "-sha256", "-binary", given=der)
    pin = openssl("base64", given=digest).decode().strip()
    assert facts["SPKI pin"] == f'pin-sha256="{pin}"'
    issuer = openssl("x509", "-noout", "-issuer", "-nameopt", "RFC2253").decode().strip()
    assert facts["issuer"] == issuer.removeprefix("issuer=")
    assert facts["chain"].startswith(facts["issuer"])


# -- a state folder that is not as it should be -------------------------------------------


@pytest.mark.fault(row=42)
@pytest.mark.parametrize("words", [["plan"], ["status"], ["show", "www"], ["renew"], ["run"]])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"garbage " * 1000, id="garbage"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 9000, id="garbage behind a good head"),
    ],
)
def test_a_damaged_database_is_told(site: Site, words: list[str], content: bytes) -> None:
    site.certificate("www", "www.example.com")
    site.state.mkdir()
    (site.state / "certd.db").write_bytes(content)
    said = mistake(site.certd(*words), 1)
    assert str(site.state / "certd.db") in said
    assert "restore a backup" in said
    assert (site.state / "certd.db").read_bytes() == content


def test_a_database_of_a_newer_certd_is_told(site: Site) -> None:
    site.certificate("www", "www.example.com")
    Store.open(site.state).close()
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    assert "written by a newer certd" in mistake(site.certd("status"), 1)


@pytest.mark.parametrize("words", [["status"], ["plan"], ["renew"], ["run"]])
def test_a_state_folder_that_is_a_file_is_told(site: Site, words: list[str]) -> None:
    site.certificate("www", "www.example.com")
    site.state.write_text("no folder")
    said = mistake(site.certd(*words), 1)
    assert str(site.state) in said
    assert "correct [certd] state" in said
    assert "as root" not in said


@pytest.mark.parametrize("words", [["status"], ["plan"], ["show", "www"]])
def test_an_empty_database_is_like_none(site: Site, words: list[str]) -> None:
    site.certificate("www", "www.example.com")
    without = result(site.certd(*words))
    site.state.mkdir()
    (site.state / "certd.db").touch()
    assert result(site.certd(*words)) == without


@pytest.mark.parametrize("words", [["status"], ["plan"]])
def test_mistakes_of_the_configuration_come_before_those_of_the_state_folder(
    site: Site, words: list[str]
) -> None:
    site.state.write_text("no folder")
    with site.path.open("a") as file:
        file.write("no TOML\n")
    assert mistake(site.certd(*words), 2) == mistake(site.certd("check"), 2)


@pytest.mark.parametrize("words", [["renew"], ["run"]])
def test_the_state_folders_parent_must_be_there(site: Site, words: list[str]) -> None:
    site.tables["certd"]["state"] = "no/such/state"
    site.certificate("www", "www.example.com")
    said = mistake(site.certd(*words), 1)
    assert "cannot use the state folder" in said
    assert "create its parent" in said


def test_a_state_folder_that_may_not_be_read_is_told(site: Site) -> None:
    site.certificate("www", "www.example.com")
    Store.open(site.state).close()
    (site.state / "certd.db").chmod(0)
    site.state.chmod(0)
    try:
        done = unprivileged(site, "status")
    finally:
        site.state.chmod(0o700)
    said = mistake(done, 1)
    assert "Permission denied" in said
    assert "run this command as root" in said


# -- many ---------------------------------------------------------------------------------


def test_ten_thousand_certificates(tmp_path: Path) -> None:
    """What it costs is measured by ``make bench``."""
    path = str(many.prepare(tmp_path / "many", MANY))
    lines = {}
    for words in ("status",), ("status", "--json"), ("show", "c77"):
        lines[words[-1]] = result(run("-c", path, *words)).splitlines()
    assert len(lines["status"]) == MANY + 2
    assert "state        ok" in lines["c77"]
    entries = json.loads("\n".join(lines["--json"]))["certificates"]
    assert [entry["name"] for entry in entries] == sorted(f"c{number}" for number in range(MANY))
    for entry in entries:
        assert entry["names"] == [f"{entry['name']}.example.com"]
        assert (entry["state"], entry["renew_reason"]) == ("ok", "the CA's renewal window")
        assert [(item["name"], item["state"]) for item in entry["targets"]] == [("web", "verified")]
    # A line each, for tools that read lines.
    assert [json.loads(line.rstrip(",")) for line in lines["--json"][1:-1]] == entries


def _issue(store: Store, spec: CertificateSpec, days_ago: float = 0) -> None:
    """As if the CA had issued it for 90 days and the target served it."""
    now, name = datetime.now(UTC) - timedelta(days=days_ago), spec.name
    order = store.orders.begin(
        name,
        "test",
        "https://ca.example/dir",
        spec.identifiers,
        spec.key_type,
        Secret("key"),
        "csr",
        None,
        now,
    )
    facts = Certificate(
        spec.identifiers, now, now + timedelta(days=90), "01", "ff", "pin=", None, "CN=a CA"
    )
    store.orders.complete(order, "leaf", "", facts, now)
    store.lineages.keep_target(name, TargetState("web", "verified", 1, 1))
