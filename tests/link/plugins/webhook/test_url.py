"""What a url says, and what is wrong with one that cannot be called."""

from __future__ import annotations

import pytest

from link.plugins.webhook.url import BadUrl, Target, target


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://paris.example/", Target("https", "paris.example", "paris.example", 443, "/")),
        ("https://paris.example", Target("https", "paris.example", "paris.example", 443, "/")),
        ("hTTp://Paris.Example:8080/A?b=c&d", Target("http", "Paris.Example:8080", "Paris.Example", 8080, "/A?b=c&d")),
        ("https://h?q=1", Target("https", "h", "h", 443, "/?q=1")),
        ("https://h:/", Target("https", "h", "h", 443, "/")),
        ("https://h./../%2e%2e//x", Target("https", "h.", "h.", 443, "/../%2e%2e//x")),
        ("http://[2001:DB8::1]:81/", Target("http", "[2001:DB8::1]:81", "2001:DB8::1", 81, "/")),
        ("https://h_x.com/?a[]=<b>&c={d}", Target("https", "h_x.com", "h_x.com", 443, "/?a[]=%3Cb%3E&c=%7Bd%7D")),
    ],
)
def test_the_parts_of_a_url(url: str, expected: Target) -> None:
    assert target(url) == expected


MALFORMED, SCHEME = "invalid URL", "invalid URL scheme"


@pytest.mark.parametrize(
    ("url", "links", "ours"),
    [
        ("", "missing URL", ""),
        (" https://h/", MALFORMED, "U+0020 at position 1"),
        ("https://h/a b", MALFORMED, "U+0020 at position 12"),
        ("https://h/a\tb", MALFORMED, "U+0009"),
        ("ht\ntp://h/", MALFORMED, "U+000A"),
        ("https://h/\x00", MALFORMED, "U+0000"),
        ("https://h/\x7f", MALFORMED, "U+007F"),
        ("https://h\\@paris/", MALFORMED, "U+005C"),
        ("https://m\xfcnchen.de/", MALFORMED, "punycode"),
        ("https://\uff11\uff12\uff17.0.0.1/", MALFORMED, "U+FF11"),
        ("https://h:\u0663/", MALFORMED, "U+0663"),
        ("https://h/%zz", MALFORMED, "'%' at position 11"),
        ("https://h/%2", MALFORMED, "'%' at position 11"),
        ("::::", MALFORMED, "https://host/path"),
        ("example.com/hook", MALFORMED, "https://host/path"),
        ("/just/path", SCHEME, "use https"),
        ("//h/x", SCHEME, "use https"),
        ("ftp://h/", SCHEME, "'ftp'"),
        ("file:///etc/passwd", SCHEME, "'file'"),
        ("localhost:80/x", SCHEME, "'localhost'"),
        ("http:///x", MALFORMED, "no host"),
        ("http:x", MALFORMED, "no host"),
        ("https://:443/", MALFORMED, "no host"),
        ("https://h:0/", MALFORMED, "port '0'"),
        ("https://h:65536/", MALFORMED, "port '65536'"),
        ("https://h:-1/", MALFORMED, "port '-1'"),
        ("https://h:80:90/", MALFORMED, "port '80:90'"),
        ("https://::1/", MALFORMED, "port ':1'"),
        ("https://[::1]x/", MALFORMED, "port ':1]x'"),
        ("https://[::1/", MALFORMED, "is not an IPv6 address"),
        ("https://[v1.a]/", MALFORMED, "is not an IPv6 address"),
        ("https://[127.0.0.1]/", MALFORMED, "is not an IPv6 address"),
        ("https://[fe80::1%25eth0]/", MALFORMED, "zone"),
        ("https://e%78ample.com/", MALFORMED, "escape"),
        ("https://-h.com/", MALFORMED, "is not a host name"),
        ("https://.h/", MALFORMED, "is not a host name"),
        ("https://h..x/", MALFORMED, "is not a host name"),
        ("https://*/", MALFORMED, "is not a host name"),
        (f"https://{'a' * 64}.example/", MALFORMED, "is not a host name"),
        (f"https://{'a.' * 127}/", MALFORMED, "is not a host name"),
        (f"https://h/{'a' * 2_048}", "", "2058 characters"),
        ("https://user:pass@h/", "", "user and password"),
        ("https://@h/", "", "user and password"),
        ("https://h/#f", "", "fragment"),
        ("https://h/#", "", "fragment"),
    ],
)
def test_a_url_that_cannot_be_called_gets_links_words_and_the_way_out(url: str, links: str, ours: str) -> None:
    with pytest.raises(BadUrl) as bad:
        target(url)
    problems = list(bad.value.problems)
    if links:
        assert problems.pop(0) == links
    assert ours in " ".join(problems)


def test_every_problem_of_a_url_is_listed_at_once() -> None:
    with pytest.raises(BadUrl) as bad:
        target("https://user:pass@-h:0/#f")
    assert len(bad.value.problems) == 5


def test_a_message_shows_neither_password_nor_path_nor_query() -> None:
    with pytest.raises(BadUrl) as bad:
        target("https://user:marker@-h:0/marker?marker#marker")
    assert "marker" not in str(bad.value)
