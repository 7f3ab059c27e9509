"""Access logs that MeshConfig orders: where they are, and in which form (MESH-018)."""

from typing import Any

import pytest
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from google.protobuf import json_format

from pypilot.compile.listeners.access_log import (
    JSON_FORMAT,
    TEXT_FORMAT,
    access_logs,
    listener_access_logs,
    tunnel_access_logs,
)
from pypilot.world.reader import Reader
from tests.compile.listeners.decoding import listeners_of, managers, tcp_proxies, world_of
from tests.golden import node
from tests.world.objects import pod, service

FILE = "accessLogFile: /dev/stdout\n"


def log(mesh: str) -> file_pb2.FileAccessLog:
    (made,) = access_logs(Reader(world_of(mesh=mesh)))
    assert made.name == "envoy.access_loggers.file"
    message = file_pb2.FileAccessLog()
    made.typed_config.Unpack(message)
    assert message.path == "/dev/stdout"
    return message


def text(mesh: str) -> str:
    return log(mesh).log_format.text_format_source.inline_string


def fields(mesh: str) -> dict[str, Any]:
    made = log(mesh).log_format
    assert made.HasField("json_format_options")
    return json_format.MessageToDict(made.json_format)


def test_nothing_by_default() -> None:
    reader = Reader(world_of())
    assert not access_logs(reader)
    assert not listener_access_logs(reader)
    assert not tunnel_access_logs(reader)


def test_the_default_line_tells_flags_details_cluster_and_route() -> None:
    line = text(FILE)
    assert line == TEXT_FORMAT
    assert line.endswith("\n")
    words = ["%RESPONSE_FLAGS%", "%RESPONSE_CODE_DETAILS%", "%UPSTREAM_CLUSTER_RAW%", "%ROUTE_NAME%"]
    assert [word for word in words if word in line] == words
    assert line.count("%") == 2 * 24


@pytest.mark.parametrize("form", ["%RESPONSE_CODE%", "%RESPONSE_CODE%\\n"])
def test_a_line_of_ones_own_ends_with_a_newline(form: str) -> None:
    assert text(f'{FILE}accessLogFormat: "{form}"') == "%RESPONSE_CODE%\n"


def test_json() -> None:
    json = FILE + "accessLogEncoding: JSON\n"
    assert fields(json) == JSON_FORMAT
    assert len(JSON_FORMAT) == 24
    assert fields(json + """accessLogFormat: '{"a": {"b": "%PROTOCOL%"}, "n": 1}'""") == {
        "a": {"b": "%PROTOCOL%"},
        "n": 1,
    }


@pytest.mark.parametrize(
    "broken", ["[1]", "{", "text", '{"a": NaN}', '{"a": 1e999}', '{"a":' * 5000, '{"a":' * 150 + "1" + "}" * 150]
)
def test_json_that_is_no_object_gives_the_default(broken: str) -> None:
    assert fields(f"{FILE}accessLogEncoding: JSON\naccessLogFormat: '{broken}'") == JSON_FORMAT


@pytest.mark.parametrize(
    "mesh",
    [
        FILE + 'accessLogFormat: "%REQ_WITHOUT_QUERY(:PATH)%"',
        FILE + 'accessLogEncoding: JSON\naccessLogFormat: \'{"path": "%REQ_WITHOUT_QUERY(:PATH)%"}\'',
    ],
)
def test_the_formatter_comes_with_its_operator(mesh: str) -> None:
    assert [f.name for f in log(mesh).log_format.formatters] == ["envoy.formatter.req_without_query"]
    assert not log(FILE).log_format.formatters


def test_logs_of_listeners_and_tunnels_are_limited() -> None:
    reader = Reader(world_of(mesh=FILE))
    assert [list(made.filter.response_flag_filter.flags) for made in listener_access_logs(reader)] == [["NR"]]
    assert [list(made.filter.response_flag_filter.flags) for made in tunnel_access_logs(reader)] == [["UF"]]
    assert access_logs(reader)[0].filter == accesslog_pb2.AccessLogFilter()
    assert not listener_access_logs(Reader(world_of(mesh=FILE + "disableEnvoyListenerLog: true")))


def test_everything_that_takes_connections_logs() -> None:
    objects = [service("web"), service("tcp", protocol="tcp", port=90), pod("web-1", "10.1.0.1", app="web")]
    listeners = listeners_of(node({"name": "web-1", "ip": "10.1.0.1"}), objects, FILE)
    assert len(listeners) == 5
    for name, listener in listeners.items():
        own = name in ("virtualInbound", "virtualOutbound", "connect_originate")
        assert bool(listener.access_log) is own, name
        assert all(manager.access_log for manager in managers(listener)), name
        for proxy in tcp_proxies(listener):
            assert bool(proxy.access_log) is (proxy.cluster != "BlackHoleCluster"), name
