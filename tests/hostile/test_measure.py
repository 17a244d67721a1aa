"""The comparison with other clients is true: they reach a harmless receiver, and a crash is not an ending."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.hostile.__main__ import columns
from tests.hostile.attacks import ATTACKS
from tests.hostile.certificates import Authority
from tests.hostile.client import plain_requests
from tests.hostile.measure import CRASHED, STOPPED, Figures, measure
from tests.hostile.receiver import Receiver


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_the_certificates_pass_strict_verification(authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = authority.server_context("paris.example").wrap_bio(incoming, outgoing, server_side=True)
    strict = ssl.create_default_context(cafile=authority.path)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    client = strict.wrap_bio(outgoing, incoming, server_hostname="paris.example")
    for step in (client.do_handshake, server.do_handshake):
        with pytest.raises(ssl.SSLWantReadError):
            step()
    client.do_handshake()


def test_a_client_that_it_is_compared_with_reaches_a_harmless_receiver(authority: Authority) -> None:
    with Receiver(tls=authority.server_context()) as receiver:
        assert plain_requests(str(authority.path))(receiver.url) == "204"


def test_a_client_that_crashes_has_not_ended(authority: Authority) -> None:
    figures = measure("no such client", ATTACKS[0], "plain", authority, patience=60)
    assert (figures.ended, figures.outcome) == (False, CRASHED)


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        (Figures(0.5, 1.25, 0.125), "  0.50    1.2  0.12"),
        (Figures(15, outcome=STOPPED, ended=False), "   > 15     ?     ?"),
        (Figures(0, outcome=CRASHED, ended=False), "crashed     ?     ?"),
    ],
)
def test_the_table_shows_figures_only_of_a_client_that_ended(figures: Figures, shown: str) -> None:
    assert columns(figures) == shown
