"""A CA's profiles (draft-ietf-acme-profiles); a lifetime of one's own (RFC 8555 section 7.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from certd import due
from certd.known import Version
from certd.testing.exchanges import Act, Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

DAY = timedelta(days=1)
PROFILES = {"classic": 90 * 86400, "short": 6 * 86400}


@pytest.fixture
def profiled(start_pebble: Callable[..., Pebble], tmp_path: Path) -> Iterator[FaultyCA]:
    """A CA with two profiles."""
    pebble = start_pebble(profiles=PROFILES, retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "profiled") as ca:
        yield ca


@pytest.fixture
def site(profiled: FaultyCA, tmp_path: Path) -> Site:
    return Site(tmp_path / "site", profiled)


def lists(*profiles: str) -> Act:
    """A directory with other profiles than the CA's; none at all if there are none."""

    def act(_: Exchange, forward: Forward) -> Reply:
        meta = {"profiles": dict.fromkeys(profiles, "")} if profiles else {}
        return forward().but(meta=meta)

    return act


def lifetime(version: Version | None) -> timedelta:
    assert version is not None
    facts = version.certificate
    return facts.not_after - facts.not_before + timedelta(seconds=1)


def asked(ca: FaultyCA) -> list[str | None]:
    """The profile of each order that was asked for."""
    return [exchange.payload.get("profile") for exchange in ca.seen("new-order")]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_order_carries_the_profile(profile: str, site: Site, profiled: FaultyCA) -> None:
    site.certificate("www", "www.example.com", profile=profile)
    with Driver(site) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert (current.profile, lifetime(current).total_seconds()) == (profile, PROFILES[profile])
    assert set(asked(profiled)) == {profile}
    shown = site.certd("show", "www").stdout
    assert f"profile      {profile}\n" in shown


def test_another_profile_renews_once(site: Site, profiled: FaultyCA) -> None:
    site.certificate("www", "www.example.com", profile="classic").renew()
    site.certificate("www", "www.example.com", profile="short")
    plan = site.certd("plan").stdout
    assert "renew for www.example.com" in plan
    assert "the profile has changed from classic to short" in plan
    assert "renewed, version 2" in site.renew().stdout
    assert "not due before" in site.renew().stdout
    site.certificate("www", "www.example.com")  # any: that is another wish too
    assert "renewed, version 3" in site.renew().stdout
    assert asked(profiled)[-1] is None


def test_a_profile_that_the_ca_lacks_is_told_before_an_order_is_made(
    site: Site, profiled: FaultyCA
) -> None:
    site.tables["ca.test"]["limits"] = ["same 1/7d"]  # of which it must not cost any
    site.certificate("www", "www.example.com", profile="shortlived")
    done = site.certd("renew")
    assert done.returncode == 1
    assert (
        "www: FAILED test has no profile shortlived: it has classic, short; correct profile in "
        "[certificate.www], or name a fallback_profile"
    ) in done.stdout
    assert not profiled.seen("new-order")
    site.certificate("www", "www.example.com", profile="short")
    assert "issued, version 1" in site.renew().stdout


def test_the_fallback_is_ordered_and_is_no_reason_to_renew(site: Site, profiled: FaultyCA) -> None:
    site.certificate("www", "www.example.com", profile="shortlived", fallback_profile="classic")
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.current is not None
        assert lineage.current.profile == "classic"
        assert "www: test has no profile shortlived: ordering classic" in driver.said
        driver.wait(DAY.total_seconds())
        assert not due.issuance(driver.spec("www"), lineage, driver.now()).due(driver.now())
    assert "classic (configured: shortlived)" in site.certd("show", "www").stdout


@pytest.mark.parametrize("fallback", ["classic", None])
def test_a_profile_that_is_listed_and_refused_all_the_same(
    fallback: str | None, site: Site, profiled: FaultyCA
) -> None:
    """As of accounts that may not use it."""
    more = {"fallback_profile": fallback} if fallback else {}
    site.certificate("www", "www.example.com", profile="special", **more)
    profiled.on("directory", lists("special", "classic"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        if fallback:
            assert lineage.current is not None
            assert (lineage.current.profile, asked(profiled)[0]) == ("classic", "special")
            return
        assert lineage.failure is not None
        assert "invalidProfile" in lineage.failure.why
        assert "lists classic, special: name another profile in" in lineage.failure.next
        assert lineage.retry_at is not None
        assert lineage.retry_at - driver.now() > 0.9 * DAY
        read = len(profiled.seen("directory"))
        driver.retry("www")
        assert len(profiled.seen("directory")) > read  # it is not taken from what was read before


def test_a_ca_that_has_no_profiles_is_asked_without(site: Site, profiled: FaultyCA) -> None:
    profiled.on("directory", lists())
    site.certificate("www", "www.example.com", profile="short")
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.current is not None
        assert lineage.current.profile is None
        assert "www: test has no profiles: ordering without short" in driver.said
        assert not due.issuance(driver.spec("www"), lineage, driver.now()).due(driver.now())
    assert asked(profiled) == [None] * len(asked(profiled))


def test_a_list_that_has_changed_is_read_again_before_it_counts(
    site: Site, profiled: FaultyCA
) -> None:
    profiled.on("directory", lists("other"), times=1)
    site.certificate("www", "www.example.com", profile="short")
    with Driver(site) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert current.profile == "short"


def test_the_next_ca_is_asked_where_the_first_lacks_the_profile(
    site: Site, profiled: FaultyCA, second: FaultyCA
) -> None:
    table = {"directory": second.directory, "ca_bundle": str(second.ca_bundle), "agree_tos": True}
    site.tables["ca.second"] = table
    site.certificate("www", "www.example.com", ca=["test", "second"], profile="default")
    site.tables["http"]["listen"].append(f"127.0.0.1:{second.http_port}")
    site.tables["certificate.www"]["self_check"] = False
    site.write()
    with Driver(site) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert (current.ca, current.profile) == ("second", "default")
    assert not profiled.seen("new-order")


@pytest.mark.parametrize(
    "profiles",
    [
        pytest.param(["classic"], id="a list"),
        pytest.param({str(n): "" for n in range(10_000)}, id="ten thousand"),
        pytest.param({"\x1b[31m": 5}, id="what writes to the terminal"),
        pytest.param(5, id="a number"),
    ],
)
def test_whatever_a_directory_lists(profiles: object, site: Site, profiled: FaultyCA) -> None:
    profiled.on("directory", lambda _, forward: forward().but(meta={"profiles": profiles}))
    site.certificate("www", "www.example.com", profile="short")
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
        if failure is not None:
            assert "\x1b" not in str(failure)
            assert len(str(failure)) < 2000


# -- a lifetime of one's own ----------------------------------------------------------------


def test_a_lifetime_is_asked_for_and_another_renews(site: Site) -> None:
    site.certificate("www", "www.example.com", profile="classic", lifetime="7d")
    with Driver(site) as driver:
        assert abs(lifetime(driver.attempt("www").current) - 7 * DAY) < timedelta(minutes=5)
    site.certificate("www", "www.example.com", profile="classic", lifetime="12h")
    assert "the lifetime has changed from 604800s to 43200s" in site.certd("plan").stdout
    with Driver(site) as driver:
        assert lifetime(driver.attempt("www").current) < 0.6 * DAY


def test_a_ca_that_takes_none_is_asked_without_and_it_is_said(
    site: Site, profiled: FaultyCA
) -> None:
    def refuse(exchange: Exchange, forward: Forward) -> Reply:
        if "notAfter" in exchange.payload:  # the words are Let's Encrypt's
            text = "NotBefore and NotAfter are not supported"
            return Reply.problem(400, "malformed", text)
        return forward()

    profiled.on("new-order", refuse)
    site.certificate("www", "www.example.com", profile="classic", lifetime="7d")
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.current is not None
        assert lifetime(lineage.current) > 80 * DAY
        assert "www: test takes no lifetime: ordering what it gives" in driver.said
        assert not due.issuance(driver.spec("www"), lineage, driver.now()).due(driver.now())
        assert driver.force("www").current != lineage.current
    renewal = profiled.seen("new-order")[-1].payload
    assert "replaces" in renewal  # it is not given up along with the lifetime
