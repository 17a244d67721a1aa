"""The agent's configuration: what is read, and that every problem has its line, its key and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkctl.agent import files
from linkctl.agent.config import Check, Config, Endpoint, line_of, load, parse
from linkctl.errors import Failed
from tests.support.ids import LONDON, PARIS

WHOLE = f"""\
host = "paris"
event_bus = "link-webhook"
region = "eu-west-1"
host_identity = false
keep_on_stop = true
spot = true
healthcheck_interval = 10

[[endpoints]]
endpoint_id = "{PARIS}"
resource_id = "floating-ip-203.0.113.7"
lease_seconds = 30

[[endpoints.checks]]
type = "TCP"
host = "::1"
port = 5432
timeout = 2.5

[[endpoints.checks]]
type = "HTTPS"
host = "localhost"
path = "/health?deep=1"
expect = "204"

[[endpoints]]
endpoint_id = "{LONDON}"
resource_id = "r2"

[[endpoints.checks]]
type = "command"
command = ["/bin/test", "-e", "/run/up"]
"""


def test_every_key_is_read() -> None:
    tcp = Check("TCP", 2.5, "::1", 5_432)
    https = Check("HTTPS", 10, "localhost", 443, "/health?deep=1", (204, 204))
    command = Check("command", 10, command=("/bin/test", "-e", "/run/up"))
    assert parse(WHOLE, "agent.toml") == Config(
        host="paris",
        event_bus="link-webhook",
        region="eu-west-1",
        host_identity=False,
        keep_on_stop=True,
        spot=True,
        interval_seconds=10,
        endpoints=(
            Endpoint(PARIS, "floating-ip-203.0.113.7", 30, (tcp, https)),
            Endpoint(LONDON, "r2", 60, (command,)),
        ),
    )


def test_what_is_left_out_has_a_default() -> None:
    text = 'host = "paris"\nevent_bus = "bus"\nregion = "eu-west-1"\n'
    text += f'[[endpoints]]\nendpoint_id = "{PARIS}"\nresource_id = "r"\n'
    text += '[[endpoints.checks]]\ntype = "HTTP"\nhost = "localhost"\n'
    http = Check("HTTP", 5, "localhost", 80, "/", (200, 399))
    assert parse(text, "agent.toml") == Config(
        "paris", "bus", "eu-west-1", True, False, False, 5, (Endpoint(PARIS, "r", 60, (http,)),)
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('host = "paris"\n', "", "agent.toml:1: host: missing: give a text of 1 to 256 characters"),
        ('region = "eu-west-1"\n', "", "agent.toml:1: region: missing: give a text"),
        ('host = "paris"', "host = 1", "agent.toml:1: host: 1 is not a text of 1 to 256"),
        ('host = "paris"', 'host = ""', "agent.toml:1: host: '' is not a text of 1 to 256"),
        ('host = "paris"', 'host = "a\\nb"', "without control characters"),
        ("spot = true", "spott = true", "agent.toml:6: spott: unknown key, did you mean spot?"),
        ("spot = true", 'spot = "yes"', "agent.toml:6: spot: 'yes' is not true or false"),
        ("spot = true", "zzzzz = true", "unknown key, known here: host, event_bus, region"),
        ("healthcheck_interval = 10", "healthcheck_interval = 11", "11 is not a whole number of seconds from 1 to 10"),
        ("lease_seconds = 30", "lease_seconds = 4", "agent.toml:12: endpoints[0].lease_seconds: 4 is not a whole"),
        ("lease_seconds = 30", "lease_seconds = true", "endpoints[0].lease_seconds: True is not a whole number"),
        ("lease_seconds = 30", "lease_secnds = 30", "12: endpoints[0].lease_secnds: unknown key, did you mean lease_s"),
        (f'"{PARIS}"', '"paris"', "10: endpoints[0].endpoint_id: 'paris' is not an endpoint's id: `linkctl endpoints"),
        (LONDON, PARIS, f"agent.toml:27: endpoints[1].endpoint_id: {PARIS} stands in the file twice: remove one"),
        ('resource_id = "r2"', "", "agent.toml:26: endpoints[1].resource_id: missing: give a text"),
        ('type = "TCP"', 'type = "UDP"', "15: endpoints[0].checks[0].type: 'UDP' is not one of TCP, HTTP, HTTPS, comm"),
        ('type = "TCP"', "", "agent.toml:14: endpoints[0].checks[0].type: missing: give one of TCP, HTTP, HTTPS"),
        ("port = 5432", "port = 0", "agent.toml:17: endpoints[0].checks[0].port: 0 is not a whole number"),
        ("port = 5432", "", "agent.toml:14: endpoints[0].checks[0].port: missing: give a whole number from 1 to 65535"),
        ("port = 5432", 'path = "/"', "endpoints[0].checks[0].path: unknown key"),
        ("timeout = 2.5", "timeout = 0", "0 is not a number of seconds, more than 0 and at most healthcheck_interval"),
        ("timeout = 2.5", "timeout = 10.5", "10.5 is not a number of seconds"),
        ("timeout = 2.5", "timeout = nan", "nan is not a number of seconds"),
        ("timeout = 2.5", "timeout = true", "True is not a number of seconds"),
        ('"/health?deep=1"', '"health"', "23: endpoints[0].checks[1].path: 'health' is not a path that begins with /"),
        ('"/health?deep=1"', '"/ü"', "percent-encode the others"),
        ('"/health?deep=1"', '"/a b"', "'/a b' is not a path"),
        (
            'expect = "204"',
            'expect = "2xx"',
            "agent.toml:24: endpoints[0].checks[1].expect: '2xx' is not a status or a",
        ),
        ('expect = "204"', 'expect = "399-200"', "'399-200' is not a status or a range"),
        (
            'command = ["/bin/test", "-e", "/run/up"]',
            'command = "true"',
            "32: endpoints[1].checks[0].command: 'true' is",
        ),
        ('command = ["/bin/test", "-e", "/run/up"]', "command = []", "[] is not a list of texts"),
        ('command = ["/bin/test", "-e", "/run/up"]', 'command = ["true"]', "the program with its full path first"),
        ('command = ["/bin/test", "-e", "/run/up"]', 'command = ["/a", 1]', "['/a', 1] is not a list of texts"),
        ("[[endpoints.checks]]\ntype", "[endpoints.checks]\ntype", "is not TOML"),
        ('host = "paris"', 'host = "paris', "agent.toml is not TOML: "),
    ],
)
def test_a_problem_has_its_line_its_key_and_the_way_out(old: str, new: str, message: str) -> None:
    assert old in WHOLE
    with pytest.raises(Failed) as problem:
        parse(WHOLE.replace(old, new, 1), "agent.toml")
    assert message in str(problem.value)


def test_all_problems_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = WHOLE.replace('"paris"', "1").replace("port = 5432", "port = 0").replace('"r2"', '""')
    with pytest.raises(Failed) as problem:
        parse(text, "agent.toml")
    assert [line.split(":")[1] for line in str(problem.value).splitlines()] == ["1", "17", "28"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('host = "paris"\nevent_bus = "b"\n', "agent.toml:1: endpoints: missing: add at least one [[endpoints]]"),
        ('host = "paris"\nevent_bus = "b"\nendpoints = 1\n', "agent.toml:3: endpoints: 1 is not tables: begin each"),
        ('host = "paris"\nevent_bus = "b"\nendpoints = [1]\n', "agent.toml:3: endpoints: 1 is not one of tables: beg"),
    ],
)
def test_endpoints_are_tables(text: str, message: str) -> None:
    with pytest.raises(Failed) as problem:
        parse(text, "agent.toml")
    assert message in str(problem.value)


def test_a_thousand_endpoints_fit_and_more_are_refused() -> None:
    def text(count: int) -> str:
        endpoints = [f'[[endpoints]]\nendpoint_id = "vip-{number}"\nresource_id = "r"\n' for number in range(count)]
        return 'host = "paris"\nevent_bus = "bus"\nregion = "eu-west-1"\n' + "".join(endpoints)

    assert len(parse(text(1_000), "agent.toml").endpoints) == 1_000
    with pytest.raises(Failed, match=r"agent\.toml:3004: .*1001 endpoints: at most 1000"):
        parse(text(1_001), "agent.toml")


def test_lines_are_found_behind_comments_inline_tables_and_texts_of_several_lines() -> None:
    text = '''\
# [[endpoints]]
about = """
[[endpoints]]
port = 1
"""
[[ endpoints ]]  # paris
checks = [
  { type = "TCP", port = 0 },
]
[[endpoints]]
"resource_id" = "r"
'''
    assert line_of(text, ("endpoints", 0)) == 6
    assert line_of(text, ("endpoints", 0, "checks", 0, "port")) == 7
    assert line_of(text, ("endpoints", 1, "resource_id")) == 11


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"host = '\xfc'")
    for name in ("latin", "missing"):
        with pytest.raises(Failed, match=f"{name} cannot be read: "):
            load(tmp_path / name)


def test_the_configuration_that_init_writes_can_be_used_and_has_what_was_registered() -> None:
    shown = {"id": LONDON, "election_key": 'webhook/a "b"/ü', "lease_seconds": 15, "checks": [
        {"type": "HTTPS", "host": "::1", "port": 443, "path": "/up", "expect": "204"}, {"type": "later"}]}  # fmt: skip
    text = files.config("lon\\don", "bus", "eu-west-2", [files.EXAMPLE, files.Registered.of(shown)])
    config = parse(text, "agent.toml")
    assert (config.host, config.event_bus, config.region) == ("lon\\don", "bus", "eu-west-2")
    assert config.endpoints[0].checks == (Check("TCP", 5, "127.0.0.1", 5_432),)
    https = Check("HTTPS", 5, "::1", 443, "/up", (204, 204))
    assert config.endpoints[1] == Endpoint(LONDON, 'a "b"/ü', 15, (https,))


def test_every_comment_of_that_configuration_is_true_when_it_is_uncommented() -> None:
    text = files.config("paris", "bus", "eu-west-1", [])
    lines = [line.removeprefix("# ") for line in text.splitlines() if not line.startswith("# [[endpoints]]")]
    kept = [line for line in lines if "=" in line.partition("#")[0] or line.startswith("[[")]
    endpoint = ["[[endpoints]]", f'endpoint_id = "{PARIS}"', 'resource_id = "r"']
    at = kept.index("[[endpoints.checks]]")
    config = parse("\n".join(kept[:at] + endpoint + kept[at:]), "agent.toml")
    assert (config.host_identity, config.keep_on_stop, config.spot) == (False, True, True)
    assert [check.type for check in config.endpoints[0].checks] == ["HTTP", "command"]
