"""Contacts: which URLs may be one, and for which CA (RFC 8555 section 7.3)."""

from __future__ import annotations

import pytest

from certd import config as configuration
from tests.configuring import AGREED, WWW, Write, places, wrong


@pytest.mark.parametrize(
    "contact",
    ["mailto:ops@example.com", "MAILTO:a+b.c@xn--bcher-kva.example", "mailto:o%27x@localhost"],
)
def test_a_mail_address_is_a_contact(write: Write, contact: str) -> None:
    path = write(f'[certd]\ncontact = ["{contact}"]\n{AGREED}{WWW}')
    assert configuration.load(path).contact == (contact,)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param("bad@@example", "an address has one @, with a domain behind it", id="two @"),
        pytest.param("bad", "an address has one @, with a domain behind it", id="no @"),
        pytest.param("bad@", "an address has one @, with a domain behind it", id="no domain"),
        pytest.param("@example.com", '"" cannot stand before the @', id="nobody"),
        pytest.param("a..b@example.com", '"a..b" cannot stand before the @', id="two dots"),
        pytest.param("a@-x.example", '"-x.example" is not a DNS name: ', id="no domain name"),
        pytest.param("a@bücher.example", "a URL is ASCII", id="not ASCII"),
        pytest.param("a@x.example,b@x.example", "a contact is one address", id="two"),
        pytest.param("a@x.example?subject=x", "a contact is one address", id="header fields"),
    ],
)
def test_what_is_no_mail_address_says_why(write: Write, address: str, why: str) -> None:
    [line] = wrong(write(f'[certd]\ncontact = ["mailto:{address}"]\n'))
    assert line.startswith(
        f'certd.toml:2: [certd] contact: "mailto:{address}" is no mail address: {why}'
    )
    assert line.endswith('; write it as "mailto:you@example.com"')


TELEPHONE = '[certd]\nwokers = 1\ncontact = ["mailto:a@b.example", "tel:123"]\n'


def test_a_telephone_is_no_contact_for_a_ca_that_takes_mail_only(write: Write) -> None:
    assert wrong(write(TELEPHONE.replace("wok", "work") + AGREED + WWW)) == [
        'certd.toml:3: [certd] contact: "tel:123" is no contact for letsencrypt: '
        'it makes accounts with mailto: addresses only; write "mailto:you@…", or leave it out'
    ]
    bad = TELEPHONE.replace("a@b", "a@@b")
    assert places(wrong(write(bad + WWW + "kye = 1\n"))) == [
        "2: [certd] wokers",
        *["3: [certd] contact"] * 2,
        "6: [certificate.www] kye",
    ]


def test_a_telephone_may_be_a_contact_for_another_ca(write: Write) -> None:
    own = '[ca.own]\ndirectory = "https://ca.example/directory"\n'
    path = write(TELEPHONE.replace("wok", "work") + own + WWW + 'ca = ["own"]\n')
    assert configuration.load(path).contact == ("mailto:a@b.example", "tel:123")
