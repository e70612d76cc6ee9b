"""``certd account`` as its operator types it, against Pebble."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from certd.ca.keys import new_account_key
from certd.testing.pebble import Pebble
from tests.acceptance.test_terminal import on_terminal
from tests.site import Site

MAIL = "mailto:ops@example.com"


@pytest.fixture
def site(pebble: Pebble, tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", pebble)
    site.tables["certd"]["contact"] = [MAIL]
    return site.certificate("www", "www.example.com")


@pytest.fixture
def ours(pebble: Pebble, tmp_path: Path) -> Site:
    """Another certd's, at the same CA."""
    return Site(tmp_path / "ours", pebble).certificate("www", "www.example.com")


def good(site: Site, *words: str) -> str:
    done = site.certd("account", *words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def bad(site: Site, status: int, *words: str) -> str:
    done = site.certd("account", *words)
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_account_from_its_beginning_to_its_end(site: Site) -> None:
    assert re.search(r"^test +none +– +–$", good(site, "list"), re.MULTILINE)
    for words in (("show",), ("update",), ("rollover",), ("deactivate", "--yes")):
        said = bad(site, 2, words[0], "test", *words[1:])
        assert "there is no account at test yet; `certd account register test` makes one" in said

    uri = good(site, "register", "test").split()[2]
    assert f"{uri} is there already, and valid" in good(site, "register", "test")
    assert re.search(rf"^test +registered +ec-p256 +{uri}$", good(site, "list"), re.MULTILINE)
    shown = good(site, "show", "test")
    assert re.search(rf"^contact +{MAIL}$", shown, re.MULTILINE)
    assert "tells it" not in shown  # it is as configured

    site.tables["certd"]["contact"] = ["mailto:other@example.com"]
    site.write()
    assert "`certd account update test` tells it" in good(site, "show", "test")
    assert "it has: mailto:other@example.com" in good(site, "update", "test")
    before = json.loads(good(site, "show", "test", "--json"))
    assert before["contact"] == ["mailto:other@example.com"]

    assert "is valid: another in its place would lose it" in bad(
        site, 2, "register", "test", "--new"
    )
    assert f"{uri} has another key" in good(site, "rollover", "test", "--key", "rsa-2048")
    after = json.loads(good(site, "show", "test", "--json"))
    assert after["uri"] == uri
    assert after["thumbprint"] != before["thumbprint"]
    [entry] = json.loads(good(site, "list", "--json"))["accounts"]
    assert (entry["cas"], entry["key"], entry["uri"]) == (["test"], "rsa-2048", uri)
    assert "issued, version 1" in site.renew().stdout  # with that key

    assert "--yes says that it is" in bad(site, 2, "deactivate", "test")
    said = good(site, "deactivate", "test", "--yes")
    assert "not renewed any more, for they have no other CA: www" in said
    assert "deactivated already" in good(site, "deactivate", "test", "--yes")
    assert re.search(r"^status +deactivated$", site.certd("account", "show", "test").stdout, re.M)
    for command in ("register", "rollover", "update"):
        assert "`certd account register test --new` makes another" in bad(site, 1, command, "test")
    assert "FAILED" in site.certd("renew", "www", "--force").stdout

    another = good(site, "register", "test", "--new").split()[2]
    assert another != uri
    assert "renewed, version 2" in site.renew("www").stdout


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.mark.parametrize("client", ["certbot", "acme.sh", "lego", "dehydrated"])
def test_the_account_of_another_client_is_taken_over(
    client: str, site: Site, ours: Site, tmp_path: Path
) -> None:
    """Its key, in the file that the client keeps it in, is of an account that is there."""
    uri = good(site, "register", "test").split()[2]
    folder = tmp_path / client
    folder.mkdir()
    exported = tmp_path / "key.pem"
    good(site, "export", "test", str(exported))
    path = folder / "user@example.com.key"
    if client == "certbot":
        path = folder
        good(site, "export", "test", str(folder / "private_key.json"), "--format", "jwk")
        (folder / "regr.json").write_text(json.dumps({"body": {}, "uri": uri}))
    elif client == "acme.sh":
        path = folder
        openssl("ec", "-in", str(exported), "-out", str(folder / "account.key"))
        parameters = (
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        text = (folder / "account.key").read_text()
        (folder / "account.key").write_text(parameters + text)
    elif client == "lego":
        openssl("ec", "-in", str(exported), "-out", str(path))
    else:
        path = folder / "account_key.pem"
        path.write_bytes(exported.read_bytes())

    assert f"test: account {uri}" in good(ours, "import", "test", str(path))
    assert f"test: account {uri}" in good(ours, "import", "test", str(path))  # nothing changes
    assert json.loads(good(ours, "show", "test", "--json"))["uri"] == uri
    assert "issued, version 1" in ours.renew().stdout


def test_another_account_is_replaced_when_that_is_said(
    site: Site, ours: Site, tmp_path: Path
) -> None:
    theirs = good(site, "register", "test").split()[2]
    key = tmp_path / "key.pem"
    good(site, "export", "test", str(key))
    mine = good(ours, "register", "test").split()[2]
    said = bad(ours, 2, "import", "test", str(key))
    assert f"there is an account at test already: {mine}" in said
    assert f"the key is that of {theirs}" in said
    assert mine in good(ours, "list")
    assert f"{theirs} in place of {mine}" in good(ours, "import", "test", str(key), "--replace")
    assert theirs in good(ours, "list")


def test_what_cannot_be_taken_over_is_told(site: Site, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_text(new_account_key().reveal())
    said = bad(site, 2, "import", "test", str(stranger))
    assert "test knows no account with this key" in said
    assert "each CA, and its staging service, has accounts of its own" in said
    assert "none" in good(site, "list")  # and none was made
    assert "did you mean test?" in bad(site, 2, "import", "tset", str(stranger))
    assert "No such file" in bad(site, 2, "import", "test", str(tmp_path / "absent"))
    assert "not the folder of one account" in bad(site, 2, "import", "test", str(site.folder))
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in bad(site, 2, "import", "test", str(tmp_path / "pipe"))
    assert "no account key" in bad(site, 2, "import", "test", str(site.path))
    good(site, "register", "test")
    over = tmp_path / "over.pem"
    good(site, "export", "test", str(over))
    good(site, "deactivate", "test", "--yes")
    assert "`certd account register test` makes one of certd's own" in bad(
        site, 1, "import", "test", str(over)
    )


def test_a_key_is_exported_for_its_owner_only(site: Site, tmp_path: Path) -> None:
    assert "there is no account at test" in bad(site, 2, "export", "test", str(tmp_path / "k"))
    good(site, "register", "test")
    path = tmp_path / "key.pem"
    old = os.umask(0)
    try:
        assert Site.certd(site, "account", "export", "test", str(path)).returncode == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.startswith("-----BEGIN PRIVATE KEY-----")
    assert "is there already" in bad(site, 2, "export", "test", str(path))
    assert good(site, "export", "test", "-") == text
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is there already" in bad(site, 2, "export", "test", str(tmp_path / "link"))
    assert "No such file" in bad(site, 1, "export", "test", str(tmp_path / "no" / "k"))
    # From a pipe to a pipe, as between two machines.
    done = subprocess.run(
        site.argv("account", "import", "test", "-"), input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_key_is_shown_on_a_terminal(site: Site) -> None:
    good(site, "register", "test")
    said = "\n".join(on_terminal(site, "account", "export", "test", "-"))
    assert "not shown on a terminal" in said
    assert "PRIVATE KEY" not in said


def test_the_account_of_a_directory_that_is_gone_is_still_to_be_had(
    site: Site, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """A CA that moves: its account goes on at the new directory."""
    uri = good(site, "register", "test").split()[2]
    old = site.tables["ca.test"]["directory"]
    site.tables["ca.test"]["directory"] = f"https://127.0.0.1:{free_port()}/dir"
    site.write()
    said = good(site, "list")
    assert "which no CA of the configuration is at" in " ".join(said.split())
    good(site, "export", old, str(tmp_path / "key.pem"))
    site.tables["ca.test"]["directory"] = old.replace("127.0.0.1", "localhost")
    site.write()
    assert uri.rpartition("/")[2] in good(site, "import", "test", str(tmp_path / "key.pem"))


def test_without_consent_no_account_is_made(site: Site) -> None:
    site.tables["ca.test"]["agree_tos"] = False
    site.write()
    said = bad(site, 2, "register", "test")
    assert "the terms of service of test are not accepted" in said
    assert re.search(r"it makes no account before: \S+", said)
    assert "write agree_tos = true in [ca.test]" in said


def test_the_check_says_which_ca_needs_a_binding(site: Site) -> None:
    site.certificate("www", "www.certd-example.net", ca=["test", "zerossl"])
    said = site.certd("check").stdout
    assert "[ca.zerossl] eab: missing: it makes accounts for its customers only" in said
    assert "[ca.test] eab" not in said
    site.tables["ca.zerossl"] = {"agree_tos": True}
    site.tables["ca.zerossl.eab"] = {"kid": "x", "hmac": "AAEC"}
    site.write()
    assert "[ca.zerossl] eab: missing" not in site.certd("check").stdout


def test_the_key_of_one_customer_is_not_tried_at_a_staging_service_of_others(site: Site) -> None:
    """Google's keys are for its production service, or for its test one."""
    site.tables["ca.google"] = {"agree_tos": True}
    site.tables["ca.google.eab"] = {"kid": "x", "hmac": "AAEC"}
    site.certificate("www", "www.certd-example.net", ca=["google"])
    done = site.certd("renew", "--dry-run")
    assert done.returncode == 1
    assert "google's staging service takes other keys for eab; add" in done.stdout
    assert '[ca.google-staging] with directory = "https://dv.acme-v02.test-api' in done.stdout
