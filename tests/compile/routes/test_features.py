"""What the golden pairs do not spell out: limits and slips in single fields."""

from typing import Any

import pytest
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault

from pypilot.compile.features.direct_response import MAX_BODY_BYTES, direct_response_action
from pypilot.compile.features.fault import http_fault
from pypilot.compile.features.hash_policy import hash_policy
from pypilot.compile.features.header_values import is_header_value
from pypilot.compile.features.headers import header_edits
from pypilot.compile.features.percent import fraction
from pypilot.compile.features.redirect import redirect_action
from pypilot.compile.features.retries import inbound_retry_policy, retry_policy
from pypilot.compile.features.string_match import header_matcher, is_present_match, string_matcher
from pypilot.kinds.base import StringMatch
from pypilot.kinds.destination_rule import ConsistentHashLB
from pypilot.kinds.parse import convert
from pypilot.kinds.virtual_service import (
    Headers,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPRedirect,
    HTTPRetry,
    PercentValue,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", True),
        ("plain", True),
        ("100%%", True),
        ("100%", False),
        ("50% off", False),
        ("%REQ(x-a)%", True),
        ("%REQ(x-a?x-b):5%", True),
        ("%REQ%", False),
        ("%REQ()%", False),
        ("%REQ(x", False),
        ("%req(x)%", False),
        ("%CLIENT_IP%", False),
        ("%PROTOCOL%", True),
        ("%PROTOCOL(x)%", False),
        ("%START_TIME(%Y-%m-%d)%", True),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", True),
        ('%UPSTREAM_METADATA(["a","b"])%', True),
        ("%%%", False),
        ("a\nb", False),
        ("\ud800", False),
    ],
)
def test_header_values(value: str, expected: bool) -> None:
    assert is_header_value(value) is expected


def test_header_operations_that_envoy_rejects_are_left_out() -> None:
    request = {"set": {"x-bad": "100%", "x-good": "1", "": "2"}, "remove": ["", "x-a", "a\nb"]}
    edits = header_edits(convert({"request": request}, Headers))
    assert [option.header.key for option in edits.request_add] == ["x-good"]
    assert edits.request_remove == ["x-a"]


@pytest.mark.parametrize(
    ("match", "present"),
    [
        (StringMatch(), True),
        (StringMatch(regex="*"), True),
        (StringMatch(prefix=""), True),
        (StringMatch(exact=""), False),
        (StringMatch(regex=""), False),
        (StringMatch(regex=".*"), False),
    ],
)
def test_present_match(match: StringMatch, present: bool) -> None:
    assert is_present_match(match) is present
    assert header_matcher("x", match).present_match is present


def test_a_bad_expression_has_no_matcher() -> None:
    assert string_matcher(StringMatch(regex="(?=a)")) is None


@pytest.mark.parametrize(("percent", "numerator"), [(100, 1_000_000), (0.5, 5_000), (0.00001, 0), (12.3456, 123_455)])
def test_fractions_are_cut_off(percent: float, numerator: int) -> None:
    assert fraction(PercentValue(value=percent)).numerator == numerator


@pytest.mark.parametrize(
    ("text", "conditions", "codes"),
    [
        ("5xx,503", "5xx,retriable-status-codes", [503]),
        ("503", ",retriable-status-codes", [503]),
        ("503,retriable-status-codes", "retriable-status-codes", [503]),
        ("reset, ,999", "reset,999", []),
        (" a\t,b", "a,b", []),
    ],
)
def test_retry_on(text: str, conditions: str, codes: list[int]) -> None:
    policy = retry_policy(HTTPRetry(attempts=1, retry_on=text))
    assert policy is not None
    assert (policy.retry_on, list(policy.retriable_status_codes)) == (conditions, codes)


def test_hashed_requests_may_go_to_the_same_host_again() -> None:
    for retries in (None, HTTPRetry(attempts=1)):
        plain, hashed = retry_policy(retries), retry_policy(retries, hashed=True)
        assert plain is not None
        assert hashed is not None
        assert (len(plain.retry_host_predicate), len(hashed.retry_host_predicate)) == (1, 0)
    forced = retry_policy(HTTPRetry(attempts=1, retry_ignore_previous_hosts=True), hashed=True)
    assert forced is not None
    assert len(forced.retry_host_predicate) == 1


def test_inbound_retries() -> None:
    policy = inbound_retry_policy(None, grpc=False)
    assert policy is not None
    assert (policy.num_retries.value, policy.retry_on) == (2, "reset-before-request")
    assert inbound_retry_policy(None, grpc=True) is None
    assert inbound_retry_policy(HTTPRetry(attempts=0), grpc=False) is None
    own = inbound_retry_policy(HTTPRetry(attempts=5, retry_on="reset,503"), grpc=False)
    assert own is not None
    assert (own.num_retries.value, own.retry_on) == (5, "reset,retriable-status-codes")
    assert not own.retry_host_predicate


@pytest.mark.parametrize(
    ("fields", "tls", "port"),
    [
        ({}, False, 0),
        ({"port": 8080}, False, 8080),
        ({"port": 80}, False, 0),
        ({"port": 80}, True, 80),
        ({"port": 443}, True, 0),
        ({"port": 443, "scheme": "https"}, False, 0),
        ({"port": 443, "scheme": "http"}, True, 443),
        ({"derivePort": "FROM_REQUEST_PORT"}, False, 9000),
        ({"derivePort": "FROM_PROTOCOL_DEFAULT"}, False, 0),
        ({"port": 70000}, False, 0),
    ],
)
def test_redirect_ports(fields: dict[str, Any], tls: bool, port: int) -> None:
    action = redirect_action(convert(fields, HTTPRedirect), 9000, tls)
    assert action is not None
    assert action.port_redirect == port


def test_a_status_that_is_no_redirect() -> None:
    assert redirect_action(HTTPRedirect(redirect_code=305), 80, False) is None


@pytest.mark.parametrize(("length", "kept"), [(MAX_BODY_BYTES, True), (MAX_BODY_BYTES + 1, False)])
def test_bodies_have_a_limit(length: int, kept: bool) -> None:
    response = convert({"status": 200, "body": {"string": "x" * length}}, HTTPDirectResponse)
    assert direct_response_action(response).HasField("body") is kept


@pytest.mark.parametrize(
    ("fields", "possible"),
    [
        ({}, False),
        ({"delay": {"fixedDelay": "0s"}}, False),
        ({"delay": {"fixedDelay": "1s"}}, True),
        ({"abort": {"httpStatus": 199}}, False),
        ({"abort": {"httpStatus": 599}}, True),
        ({"abort": {"grpcStatus": "nope"}}, False),
        ({"abort": {"grpcStatus": "UNAVAILABLE"}}, True),
        ({"abort": {"http2Error": "x"}}, False),
    ],
)
def test_faults(fields: dict[str, Any], possible: bool) -> None:
    assert (http_fault(convert(fields, HTTPFaultInjection)) != HTTPFault()) is possible


@pytest.mark.parametrize(
    "fields",
    [{}, {"maglev": {"tableSize": 5}}, {"httpHeaderName": "a\nb"}, {"httpCookie": {"name": ""}}],
)
def test_nothing_to_hash_by(fields: dict[str, Any]) -> None:
    assert hash_policy(convert(fields, ConsistentHashLB)) is None
    assert hash_policy(None) is None
