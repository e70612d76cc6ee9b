"""Route 53 as moto has it, over HTTP, behind what checks signatures and policies as AWS does."""

from __future__ import annotations

import html
import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from certd_providers.route53 import Route53
from moto.route53.models import ChangeList, route53_backends
from moto.server import ThreadedMotoServer

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.references import reference
from certd.testing.dns import Account
from tests.fake_api import FakeAPI
from tests.fake_aws import Gateway, refusal
from tests.http_contract import HTTPProviderContract
from tests.http_server import Request, Response, forwarded, serving

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
HERE, ELSEWHERE = "123456789012", "210987654321"
RECORD = TxtRecord(ZONE, NAME, FIRST, 60)

# What Route53.credential says, and nothing else.
ALLOWED = (
    ("route53:ListHostedZones", "*"),
    ("route53:ListHostedZonesByName", "*"),
    ("route53:ListResourceRecordSets", "arn:aws:route53:::hostedzone/*"),
    ("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/*"),
    ("route53:GetChange", "arn:aws:route53:::change/*"),
)


def secret(text: str) -> SecretReference:
    return reference(text, Path("/"))


def zone(name: str = ZONE, *, account: str = HERE, private: bool = False) -> str:
    """Makes one, and returns its id."""
    backend = route53_backends[account]["aws"]
    vpc = {"vpcid": "vpc-1", "vpcregion": "us-east-1"} if private else {}
    made = backend.create_hosted_zone(f"{name}.", private_zone=private, **vpc)
    return str(made.resource_id)


def stored(account: str = HERE) -> dict[str, tuple[int, list[str]]]:
    """The TXT record sets of an account: TTL and values as they are written."""
    zones = route53_backends[account]["aws"].zones.values()
    sets = [each for one in zones for each in one.rrsets if each.type == "TXT"]
    return {each.name: (int(each.ttl or 0), list(each.records)) for each in sets}


def values(name: str) -> list[str]:
    _, quoted = stored().get(f"{name}.", (0, []))
    return ["".join(part.split('"')[1::2]) for part in quoted]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def _moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto(_moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Empty, and asking for no credential."""
    # It would look whether a set is there before the same batch deletes it: see ``exact``.
    monkeypatch.setattr(ChangeList, "__contains__", lambda *_: False)
    requests.post(f"{_moto}/moto-api/reset", timeout=10)
    return _moto


@pytest.fixture
def aws(moto: str) -> Iterator[tuple[str, Gateway]]:
    """The same behind something that asks who is there, and its address."""
    gateway = Gateway(moto)
    with serving(gateway) as url:
        yield url, gateway


def publish(one: Route53) -> bool:
    one.add_txt(RECORD)
    return one.settled(RECORD)


def provider(url: str, **settings: Any) -> Route53:
    key = {"access_key_id": "anybody", "secret_access_key": secret("hush")}
    return Route53(**{**key, "url": url, **settings})


class Front(FakeAPI):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self.gateway = gateway

    def answer(self, request: Request) -> Response:
        return self.gateway(request)


class TestRoute53(HTTPProviderContract):
    signs = True

    @pytest.fixture
    def fake(self, moto: str) -> Iterator[Front]:
        front = Front(Gateway(moto))
        with front.running():
            yield front

    @pytest.fixture
    def account(self, fake: Front) -> Account:
        zone()
        url, gateway = fake.url, fake.gateway
        gateway.user("AKIACERTD", "open sesame", *ALLOWED)
        gateway.user("AKIANOBODY", "knock knock")
        allowed = provider(url, access_key_id="AKIACERTD", secret_access_key=secret("open sesame"))
        denied = provider(url, access_key_id="AKIANOBODY", secret_access_key=secret("knock knock"))
        return Account(allowed, ZONE, values, denied, ("open sesame", "knock knock"))


def test_a_record_set_keeps_what_else_it_has(moto: str) -> None:
    zone()
    one = provider(moto)
    one.add_txt(TxtRecord(ZONE, NAME, "of somebody else", 300))
    one.add_txt(RECORD)
    assert stored() == {f"{NAME}.": (300, ['"of somebody else"', f'"{FIRST}"'])}
    one.remove_txt(RECORD)
    assert stored() == {f"{NAME}.": (300, ['"of somebody else"'])}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param('say "yes"', r'"say \"yes\""', id="quotes"),
        pytest.param("a\\b", r'"a\\b"', id="a backslash"),
        pytest.param("ü\n", r'"\303\274\012"', id="octal, unlike in a zone file"),
        pytest.param("x" * 256, f'"{"x" * 255}" "x"', id="two strings"),
        pytest.param("", '""', id="nothing"),
    ],
)
def test_a_value_is_written_as_route_53_reads_it(moto: str, text: str, written: str) -> None:
    zone()
    one, record = provider(moto), TxtRecord(ZONE, NAME, text, 60)
    one.add_txt(record)
    one.add_txt(record)
    assert stored() == {f"{NAME}.": (60, [written])}
    one.remove_txt(record)
    assert stored() == {}


def test_private_zones_are_not_looked_at(moto: str) -> None:
    zone("inside.test", private=True)
    zone(private=True)
    zone()
    one = provider(moto)
    one.add_txt(RECORD)
    assert one.zones() == {ZONE}
    with pytest.raises(ProviderError, match="does not have the zone"):
        one.add_txt(TxtRecord("inside.test", "_acme-challenge.inside.test", FIRST, 60))


def test_of_two_zones_of_one_name_the_setting_decides(moto: str) -> None:
    first, second = zone(), zone()
    with pytest.raises(ProviderError) as refused:
        provider(moto).add_txt(RECORD)
    assert first in str(refused.value)
    assert second in str(refused.value)
    assert "zone_id" in refused.value.next
    one = provider(moto, zone_id=second)
    one.add_txt(RECORD)
    zones = route53_backends[HERE]["aws"].zones
    assert [each.name for each in zones[second].rrsets if each.type == "TXT"] == [f"{NAME}."]
    assert one.zones() == {ZONE}


def test_all_zones_are_known(moto: str) -> None:
    names = {f"{number}.test" for number in range(101)}  # a page has 100
    for name in names:
        zone(name)
    assert provider(moto).zones() == names


def test_a_role_of_another_account_is_assumed(moto: str) -> None:
    zone(account=ELSEWHERE)
    role = f"arn:aws:iam::{ELSEWHERE}:role/dns"
    provider(moto, role_arn=role, external_id="certd").add_txt(RECORD)
    assert list(stored(ELSEWHERE)) == [f"{NAME}."]
    assert not stored()


@pytest.mark.parametrize(
    ("lacking", "settings", "resource"),
    [
        pytest.param("route53:ListHostedZonesByName", {}, "*", id="finding the zone"),
        pytest.param(
            "route53:ListResourceRecordSets",
            {},
            "arn:aws:route53:::hostedzone/*",
            id="reading what is there",
        ),
        pytest.param(
            "route53:ChangeResourceRecordSets",
            {"zone_id": "Z1"},
            "arn:aws:route53:::hostedzone/Z1",
            id="writing",
        ),
        pytest.param("route53:GetChange", {}, "arn:aws:route53:::change/*", id="waiting"),
        pytest.param(
            "sts:AssumeRole",
            {"role_arn": "arn:aws:iam::210987654321:role/dns"},
            "arn:aws:iam::210987654321:role/dns",
            id="assuming the role",
        ),
    ],
)
def test_the_statement_that_a_policy_lacks_is_said(
    aws: tuple[str, Gateway], lacking: str, settings: dict[str, str], resource: str
) -> None:
    where = zone()
    backend = route53_backends[HERE]["aws"]
    if "zone_id" in settings:
        backend.zones[settings["zone_id"]] = backend.zones.pop(where)
    url, gateway = aws
    gateway.user("anybody", "hush", *(may for may in ALLOWED if may[0] != lacking))
    with pytest.raises(ProviderDenied) as refused:
        publish(provider(url, **settings))
    statement = json.loads(refused.value.next.removeprefix("allow it: "))
    assert statement == {"Effect": "Allow", "Action": lacking, "Resource": resource}
    # Others can do without it in their zones, but for what is about none or all of them.
    assert refused.value.zone == (ZONE if "ResourceRecordSets" in lacking else "")


def test_one_zone_needs_no_list_of_zones(aws: tuple[str, Gateway]) -> None:
    where = zone()
    url, gateway = aws
    own = f"arn:aws:route53:::hostedzone/{where}"
    writing = ("GetHostedZone", "ListResourceRecordSets", "ChangeResourceRecordSets")
    gateway.user("anybody", "hush", *((f"route53:{action}", own) for action in writing))
    one = provider(url, zone_id=where)
    assert one.zones() == {ZONE}
    one.add_txt(RECORD)
    assert values(NAME) == [FIRST]


@pytest.mark.parametrize(
    ("key", "words"), [("AKIACERTD", "SignatureDoesNotMatch"), ("AKIA", "InvalidClientTokenId")]
)
def test_a_wrong_key_is_told(aws: tuple[str, Gateway], key: str, words: str) -> None:
    url, gateway = aws
    gateway.user("AKIACERTD", "open sesame", *ALLOWED)
    with pytest.raises(ProviderDenied, match=words) as refused:
        provider(url, access_key_id=key).add_txt(RECORD)
    assert "ChangeResourceRecordSets" in refused.value.next
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "settings", [{}, {"profile": "missing"}], ids=["no credential", "no such profile"]
)
def test_nobody_to_ask_as(moto: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ProviderError, match="there is no credential") as missing:
        Route53(url=moto, **settings).add_txt(RECORD)
    assert not isinstance(missing.value, ProviderDenied), "it may be there in a minute"


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        pytest.param(400, "Throttling", "Rate exceeded", ProviderBusy, id="too many requests"),
        pytest.param(400, "PriorRequestNotComplete", "", ProviderBusy, id="the one before"),
        pytest.param(403, "ExpiredToken", "", ProviderDenied, id="an old token"),
        pytest.param(403, "AccessDenied", "", ProviderDenied, id="no permission"),
        pytest.param(400, "RequestExpired", "", ProviderError, id="a clock"),
        pytest.param(
            403,
            "SignatureDoesNotMatch",
            "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z",
            ProviderError,
            id="a slow clock",
        ),
        pytest.param(
            403,
            "InvalidSignatureException",
            "Signature not yet current: 20260101T010000Z is still later than 20260101T001500Z",
            ProviderError,
            id="a fast clock",
        ),
        pytest.param(400, "InvalidInput", "no", ProviderError, id="nonsense"),
        pytest.param(
            400,
            "InvalidChangeBatch",
            "[Tried to create resource record set [name='a.', type='TXT'] but it already exists]",
            ProviderBusy,
            id="somebody else was faster",
        ),
        pytest.param(
            400,
            "InvalidChangeBatch",
            "[RRSet of type TXT with DNS name a. is not permitted as it conflicts with other"
            " records with the same DNS name in zone example.com.]",
            ProviderError,
            id="there is a CNAME",
        ),
        pytest.param(
            400,
            "InvalidChangeBatch",
            "[RRSet of type TXT with DNS name a. is not permitted because a conflicting RRSet of"
            " type CNAME with the same DNS name already exists in zone example.com.]",
            ProviderError,
            id="there is a CNAME, in other words",
        ),
    ],
)
def test_what_is_refused(
    moto: str, status: int, code: str, message: str, error: type[ProviderError]
) -> None:
    zone()

    def refuse(request: Request) -> Response:
        if request.method == "GET":
            return forwarded(moto, request)
        return refusal(status, code, message)

    with serving(refuse) as url, pytest.raises(ProviderError) as refused:
        provider(url).add_txt(RECORD)
    assert type(refused.value) is error
    assert code in str(refused.value)


def test_a_server_that_is_not_reached_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(ProviderBusy, match="no answer"):
            provider(f"http://127.0.0.1:{taken.getsockname()[1]}").add_txt(RECORD)


def test_what_a_role_gets_is_not_logged(moto: str, caplog: pytest.LogCaptureFixture) -> None:
    zone(account=ELSEWHERE)
    got: list[bytes] = []

    def listen(request: Request) -> Response:
        answer = forwarded(moto, request)
        got.extend(re.findall(b"<(?:SecretAccessKey|SessionToken)>(.*?)<", answer.body))
        return answer

    role = f"arn:aws:iam::{ELSEWHERE}:role/dns"
    with serving(listen) as url, caplog.at_level("DEBUG"):
        provider(url, role_arn=role).add_txt(RECORD)
    assert caplog.text
    assert len(got) == 2
    assert not [each for each in got if each.decode() in caplog.text]


@pytest.mark.parametrize("removing", [False, True], ids=["adding", "removing"])
def test_nothing_is_lost_if_somebody_changes_the_same_set(moto: str, removing: bool) -> None:
    zone()
    one = provider(moto)
    one.add_txt(TxtRecord(ZONE, NAME, "before", 300))
    if removing:
        one.add_txt(RECORD)
    overtaken: list[Request] = []

    def overtake(request: Request) -> Response:
        if request.method == "POST" and not overtaken:
            overtaken.append(request)
            provider(moto).add_txt(TxtRecord(ZONE, NAME, SECOND, 60))
        return exact(moto, request)

    with serving(overtake) as url:
        late = provider(url)
        change = late.remove_txt if removing else late.add_txt
        with pytest.raises(ProviderBusy):
            change(RECORD)
        change(RECORD)
    assert sorted(values(NAME)) == sorted(["before", SECOND] + ([] if removing else [FIRST]))
    assert stored()[f"{NAME}."][0] == 300


@pytest.mark.parametrize("there", [False, True], ids=["while it is made", "while it is deleted"])
def test_nothing_is_lost_if_somebody_writes_at_the_same_time(moto: str, there: bool) -> None:
    zone()
    one = provider(moto)
    if there:
        one.add_txt(RECORD)
    overtaken: list[Request] = []

    def overtake(request: Request) -> Response:
        if request.method == "POST" and not overtaken:
            overtaken.append(request)
            provider(moto).add_txt(TxtRecord(ZONE, NAME, SECOND, 60))
        return exact(moto, request)

    with serving(overtake) as url:
        late = provider(url)
        change = late.remove_txt if there else late.add_txt
        with pytest.raises(ProviderBusy):
            change(RECORD)
        change(RECORD)
    assert values(NAME) == ([SECOND] if there else [SECOND, FIRST])


def test_it_is_settled_when_all_servers_have_it(moto: str) -> None:
    zone()
    status = ["PENDING", "INSYNC"]

    def tell(request: Request) -> Response:
        answer = forwarded(moto, request)
        if "/change/" not in request.path:
            return answer
        body = answer.body.replace(b"INSYNC", status.pop(0).encode())
        return Response(answer.status, body, answer.headers)

    with serving(tell) as url:
        one = provider(url)
        one.add_txt(RECORD)
        assert not one.settled(RECORD)
        assert one.settled(RECORD)
        one.remove_txt(RECORD)
        assert one.settled(RECORD), "nobody waits for what is gone"
        assert one.settled(TxtRecord(ZONE, NAME, SECOND, 60)), "of before a restart"


def test_a_record_set_with_a_routing_policy_is_left_alone(moto: str) -> None:
    where = zone()
    weighted = {
        "Name": f"{NAME}.",
        "Type": "TXT",
        "TTL": 60,
        "SetIdentifier": "one",
        "Weight": 1,
        "ResourceRecords": ['"of somebody else"'],
    }
    route53_backends[HERE]["aws"].zones[where].add_rrset(weighted)
    one = provider(moto)
    for change in (one.add_txt, one.remove_txt):
        with pytest.raises(ProviderError, match="routing policy"):
            change(RECORD)
    assert values(NAME) == ["of somebody else"]


def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ProviderError) as missing:
        Route53().zones()
    assert missing.value.next == "pip install 'certd[aws]'"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"access_key_id": "AKIA"}, id="half a key"),
        pytest.param(
            {"access_key_id": "AKIA", "secret_access_key": secret("x"), "profile": "x"}, id="both"
        ),
        pytest.param({"external_id": "x"}, id="an external id for no role"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Route53(**settings)


def exact(moto: str, request: Request) -> Response:
    """What moto leaves out: CREATE refuses what is there, DELETE what is not there like that."""
    body = html.unescape(request.body.decode())
    action = re.search("<Action>(.*?)</Action>", body)  # the first: a batch does all or nothing
    _, there = stored().get(f"{NAME}.", (0, []))
    tried = f"[Tried to {{}} resource record set [name='{NAME}.', type='TXT'] but {{}}]"
    if action and action[1] == "CREATE" and there:
        return refusal(400, "InvalidChangeBatch", tried.format("create", "it already exists"))
    gone = re.findall("<Value>(.*?)</Value>", body.partition("</Change>")[0])
    if action and action[1] == "DELETE" and gone != there:
        why = "the values provided do not match the current values"
        return refusal(400, "InvalidChangeBatch", tried.format("delete", why))
    return forwarded(moto, request)


def test_a_daemon_does_not_slow_down_with_each_operation(moto: str) -> None:
    """Places in which the library looks for the descriptions of services."""
    seen = []
    for _ in range(3):
        with provider(moto).client() as client:
            seen.append(list(client._loader.search_paths))
    assert seen[0] == seen[1] == seen[2]
