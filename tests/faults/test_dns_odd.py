"""DNS answers that no server should give: none ends certd or gets past it (fault 33)."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Mapping

import dns.exception
import dns.flags
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset
import pytest

from certd.challenges.delegation import Resolving
from certd.challenges.propagation import Wanted
from certd.challenges.resolving import Unresolved
from certd.challenges.view import Vantage, View
from certd.errors import ChallengeError
from certd.model import TxtRecord
from certd.testing.proxy import FaultyCA
from tests.faults.namestub import Act, Message, framed, honest, says
from tests.faults.test_dns import SOON, assert_not_asked
from tests.faults.world import World, by_dns, left
from tests.site import Site

VALUE = "a-value-that-is-really-there"
POINTER = b"\xc0\x0c"  # to the name in the question, right behind the header
COUNTS = slice(4, 12)  # of a header: the records of each section


def octets(wire: bytes) -> Act:
    """Just these, after the id of the question: whose answer it is, is right."""
    return lambda question, _, tcp: framed(question.id.to_bytes(2) + wire, tcp)


def raw(wire: bytes) -> Act:
    return lambda question, _, tcp: framed(wire, tcp)


def with_flags(on: int = 0, off: int = 0) -> Act:
    def act(_: Message, answer: Message, tcp: bool) -> bytes:
        answer.flags = dns.flags.Flag((answer.flags | on) & ~off)
        return framed(answer.to_wire(max_size=65535), tcp)

    return act


def another_id(question: Message, answer: Message, tcp: bool) -> bytes:
    answer.id = question.id ^ 1
    return framed(answer.to_wire(), tcp)


def another_question(question: Message, answer: Message, tcp: bool) -> bytes:
    answer.question[0].name = dns.name.from_text("www.example.com")
    return framed(answer.to_wire(), tcp)


def another_class(question: Message, answer: Message, tcp: bool) -> bytes:
    answer.question[0].rdclass = dns.rdataclass.CH
    return framed(answer.to_wire(), tcp)


def echoed(question: Message, answer: Message, tcp: bool) -> bytes:
    return framed(question.to_wire(), tcp)


def miscounted(_: Message, answer: Message, tcp: bool) -> bytes:
    wire = bytearray(answer.to_wire())
    wire[COUNTS] = b"\x00\x01\xff\xff\xff\xff\xff\xff"
    return framed(bytes(wire), tcp)


def with_junk(_: Message, answer: Message, tcp: bool) -> bytes:
    return framed(answer.to_wire() + b"\x00" * 7, tcp)


def with_answer(rdata: bytes, *, length: int | None = None, kind: int = 16) -> Act:
    """One record of the name that was asked for, whose data is this."""

    def act(question: Message, answer: Message, tcp: bool) -> bytes:
        answer.answer.clear()
        answer.authority.clear()
        answer.additional.clear()
        answer.use_edns(False)
        wire = bytearray(answer.to_wire())
        wire[6:8] = b"\x00\x01"
        head = kind.to_bytes(2) + b"\x00\x01" + bytes(4)
        size = (len(rdata) if length is None else length).to_bytes(2)
        return framed(bytes(wire) + POINTER + head + size + rdata, tcp)

    return act


def only_by_tcp(then: Act = honest) -> Act:
    """Over UDP nothing but that there is more."""

    def act(question: Message, answer: Message, tcp: bool) -> bytes | None:
        if tcp:
            return then(question, answer, tcp)
        cut = dns.message.make_response(question)
        cut.flags |= dns.flags.TC | dns.flags.AA
        return framed(cut.to_wire(), tcp)

    return act


def giant(question: Message, answer: Message, tcp: bool) -> bytes:
    """As many octets as there is room for, and the honest answer among them."""
    strings = [b"x" * 255] * 200
    txt = dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    if not answer.answer:
        answer.answer.append(dns.rrset.from_rdata(question.question[0].name, 0, txt))
    answer.answer[0].add(txt)
    return framed(answer.to_wire(max_size=65535), tcp)


def many(question: Message, answer: Message, tcp: bool) -> bytes:
    texts = [f'"value-{number}"' for number in range(2000)]
    name = question.question[0].name
    answer.answer.insert(0, dns.rrset.from_text_list(name, 0, "IN", "TXT", texts))
    return framed(answer.to_wire(max_size=65535), tcp)


# In which the record is not to be seen, though it is there.
BAD: Mapping[str, Act] = {
    "nothing": raw(b""),
    "one octet": raw(b"\x00"),
    "text": raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "noise": raw(bytes(range(256)) * 4),
    "a header only": octets(b"\x84\x00" + bytes(8)),
    "half a header": octets(b"\x84"),
    "the question": echoed,
    "another id": another_id,
    "another question": another_question,
    "another class": another_class,
    "another opcode": with_flags(on=dns.flags.Flag(0x2800)),
    "no authority": with_flags(off=dns.flags.AA),
    "no response": with_flags(off=dns.flags.QR),
    "counts that lie": miscounted,
    "a pointer to itself": octets(
        b"\x84\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x10\x00\x01"
    ),
    "a reserved label": octets(b"\x84\x00\x00\x01" + bytes(6) + b"\x80\x00\x00\x10\x00\x01"),
    "octets left over": with_junk,
    "a record longer than the answer": with_answer(b"\x05value", length=65535),
    "a string longer than its record": with_answer(b"\xffvalue"),
    "a record without a string": with_answer(b""),
    "an empty string": with_answer(b"\x00"),
    "no UTF-8": with_answer(b"\x04\xff\xfe\x80\x81"),
    "words for a terminal": with_answer(b"\x0a\x1b]0;x\x07\x1b[2J"),
    "an alias of itself": with_answer(POINTER, kind=5),
    "an alias for ever": with_answer(b"\x3f" + b"a" * 63 + POINTER, kind=5),
    "an OPT as an answer": with_answer(b"\x00\x03\xff\xff", kind=41),
    "a signature that nobody asked for": with_answer(bytes(40), kind=250),
    "an unknown kind": with_answer(bytes(300), kind=65280),
    **{
        dns.rcode.to_text(code): says(code)
        for code in (
            dns.rcode.FORMERR,
            dns.rcode.SERVFAIL,
            dns.rcode.NXDOMAIN,
            dns.rcode.NOTIMP,
            dns.rcode.REFUSED,
            dns.rcode.Rcode(15),
            dns.rcode.BADVERS,
        )
    },
    "cut, and TCP hangs up": only_by_tcp(lambda *_: None),
    "cut, and TCP ends early": only_by_tcp(lambda *_: b"\xff\xff" + b"\x00" * 9),
    "cut, and nothing by TCP": only_by_tcp(raw(b"")),
    "cut, and noise by TCP": only_by_tcp(raw(bytes(range(256)) * 255)),
}
# In which it is.
GOOD: Mapping[str, Act] = {
    "honest": honest,
    "cut, whole by TCP": only_by_tcp(),
    "cut, giant by TCP": only_by_tcp(giant),
    "cut, thousands by TCP": only_by_tcp(many),
    "cut by TCP too": only_by_tcp(with_flags(on=dns.flags.TC)),
    "all flags": with_flags(on=dns.flags.RA | dns.flags.RD | dns.flags.AD | dns.flags.CD),
}


def look(world: World, name: str) -> None:
    """Whether the zone's name server has the value: it is asked once."""
    wanted = Wanted.record(TxtRecord("odd.test", name, VALUE, 0), "odd.test")

    async def wait() -> None:
        until = asyncio.get_running_loop().time()
        at = Vantage((("127.0.0.1", world.stub.port),), world.stub.port)
        await View().wait_for(wanted, "all", at, until, lambda _: None)

    asyncio.run(wait())


@pytest.fixture
def name(world: World) -> str:
    """Where the value is."""
    world.stub.honest()
    world.stub.file.write_text(f"txt.odd.test {VALUE}\n")
    return "txt.odd.test"


@pytest.mark.fault(row=33)
@pytest.mark.parametrize("which", BAD)
def test_an_odd_answer_is_told_and_taken_for_no_record(which: str, world: World, name: str) -> None:
    world.stub.acts[name] = BAD[which]
    with pytest.raises(ChallengeError) as failed:
        look(world, name)
    told = str(failed.value)
    assert "0 of 1 name servers of odd.test have it: ns1.odd.test" in told
    assert set(told) <= set(string.printable) - set("\r\n\x0b\x0c") | {"…"}
    assert len(told) < 1000


@pytest.mark.fault(row=33)
@pytest.mark.parametrize("which", GOOD)
def test_a_record_is_found_in_whatever_else_there_is(which: str, world: World, name: str) -> None:
    world.stub.acts[name] = GOOD[which]
    look(world, name)
    assert any(tcp for _, _, tcp in world.stub.asked) or "TCP" not in which


@pytest.mark.fault(row=33)
def test_an_odd_answer_to_any_other_question_is_an_error_or_none(world: World) -> None:
    """Of aliases, zones, name servers: a resolver, or what stands in its place, may be as odd."""
    world.stub.honest()
    world.stub.kinds = {"CNAME", "SOA", "NS", "A"}
    names = {f"case-{number}.odd.test": act for number, act in enumerate(BAD.values())}
    world.stub.acts.update(names)

    async def ask() -> list[object]:
        resolving = Resolving([("127.0.0.1", world.stub.port)])
        looks = [resolving.follow, resolving.zone, resolving.name_servers]
        asked = [look(name) for look in looks for name in names]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    for found in asyncio.run(ask()):
        assert isinstance(found, ChallengeError | Unresolved | str | tuple), repr(found)


@pytest.mark.fault(row=33)
def test_certd_waits_an_odd_server_out_and_takes_its_answer_by_tcp(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(world.at(named, world.stub, timeout=SOON), "www", "cut.odd.test")
    world.stub.every = BAD["noise"]
    assert named.certd("renew").returncode == 1
    assert "answers at 127.0.0.1 with what is no DNS" in assert_not_asked(named, asked)
    world.stub.every = only_by_tcp(giant)
    done = named.certd("renew", "www")
    if "EOF" in done.stdout:  # such a server may cut off the CA's resolver too: its word, not ours
        done = named.certd("renew", "www")
    assert "www: issued, version 1" in done.stdout, done.stdout
    assert left(named) == []
    assert ("_acme-challenge.cut.odd.test", "TXT", True) in world.stub.asked
