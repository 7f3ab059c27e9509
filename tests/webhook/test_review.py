"""AdmissionReviews (VAL-001, VAL-011): what `pypilot validate` says, and an answer to everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pypilot.kinds import KINDS, kind_of
from pypilot.kinds.parse import parse_object
from pypilot.webhook.review import MalformedError, Verdict, answer, check_object
from pypilot.webhook.validating import configuration_name, validation_rules, webhook_configuration


def virtual_service(**spec):
    route = [{"destination": {"host": "h"}, "weight": -1}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "vs", "namespace": "shop"},
        "spec": {"hosts": ["a"], "http": [{"route": route}], **spec},
    }


GOOD = {**virtual_service(), "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "h"}}]}]}}


def review(data, operation="CREATE", **more):
    request = {"uid": "u-1", "operation": operation, "object": data, **more}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def response(data, operation="CREATE"):
    answered = answer(review(data, operation))
    assert answered["apiVersion"] == "admission.k8s.io/v1"
    assert answered["kind"] == "AdmissionReview"
    assert answered["response"]["uid"] == "u-1"
    return answered["response"]


def test_a_good_object_passes():
    assert response(GOOD) == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_a_wrong_field_is_named(operation):
    got = response(virtual_service(), operation)
    assert got["allowed"] is False
    assert got["status"]["code"] == 422
    assert "spec.http[0].route[0].weight" in got["status"]["message"]


def test_all_that_the_parser_finds_is_said():
    data = virtual_service(http=[{"timeout": "x"}, {"timeout": "y"}], nonsense=1)
    parsed = parse_object(kind_of(data["apiVersion"], data["kind"]), data)
    got = response(data)
    for finding in parsed.findings:
        if finding.severity == "error":
            assert f"{finding.field}: {finding.message}" in got["status"]["message"]
        else:
            assert f"{finding.field}: {finding.message} [{finding.code}]" in got["warnings"]


def test_warnings_do_not_deny():
    got = response({**GOOD, "spec": {**GOOD["spec"], "nonsense": 1}})
    assert got["allowed"] is True
    assert got["warnings"] == ["spec.nonsense: unknown field, it has no effect [unknown-field]"]


def test_a_field_that_is_not_supported_is_said_with_its_reason():
    route = {**GOOD["spec"]["http"][0], "mirror_percent": 3}
    got = response({**GOOD, "spec": {**GOOD["spec"], "http": [route]}})
    assert got["allowed"] is True
    assert got["warnings"] == ["spec.http[0].mirror_percent: has no effect: write mirrorPercentage [unsupported-field]"]


def test_a_name_that_is_still_to_be_made_is_no_error():
    assert response({**GOOD, "metadata": {"generateName": "vs-"}})["allowed"] is True


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_what_writes_no_object_passes(operation):
    assert response(None, operation) == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize(
    ("version", "kind"), [("security.istio.io/v1", "PeerAuthentication"), ("", ""), ("x/v1", "VirtualService")]
)
def test_other_kinds_pass(version, kind):
    assert response({**virtual_service(), "apiVersion": version, "kind": kind})["allowed"] is True


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {},
        {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"},
        {**review(GOOD), "kind": "Pod"},
        {**review(GOOD), "apiVersion": "admission.k8s.io/v1beta1"},
        review(None),
        review([1]),
        review(GOOD, uid=""),
        review(GOOD, uid=3),
        {**review(GOOD), "request": 3},
    ],
)
def test_what_is_no_review(data):
    with pytest.raises(MalformedError):
        answer(data)


def test_messages_are_bounded():
    many = Verdict(tuple(f"error {n} " + "x" * 200 for n in range(1000)), tuple("y" * 500 + str(n) for n in range(100)))
    got = answer(review(GOOD), lambda _: many)["response"]
    assert len(got["status"]["message"]) < 20_000
    assert sum(map(len, got["warnings"])) < 4096
    assert max(map(len, got["warnings"])) <= 256


def test_a_defect_of_ours_denies_nothing():
    def broken(_):
        raise KeyError("x")

    with capture_logs() as logs:
        got = answer(review(GOOD), broken)["response"]
    assert got["allowed"] is True
    assert got["warnings"]
    assert logs[0]["log_level"] == "error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(spec=JSON, metadata=JSON, kind=st.sampled_from(["VirtualService", "Gateway", "DestinationRule", "ServiceEntry"]))
def test_whatever_is_in_an_object_there_is_an_answer(spec, metadata, kind):
    data = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    assert isinstance(check_object(data), Verdict)


def test_rules_follow_the_kinds():
    rules = validation_rules(KINDS)
    assert [rule["apiGroups"] for rule in rules] == [["networking.istio.io"], ["security.istio.io"]]
    for rule in rules:
        (group,) = rule["apiGroups"]
        assert set(rule["resources"]) == {k.plural for k in KINDS if k.group == group}
        assert rule["operations"] == ["CREATE", "UPDATE"]
    assert validation_rules([k for k in KINDS if not k.group]) == []


def test_the_configuration_blocks_nobody_when_it_is_installed():
    (hook,) = webhook_configuration(KINDS, "istio-system")["webhooks"]
    assert hook["failurePolicy"] == "Ignore"
    assert hook["clientConfig"]["service"] == {
        "name": "istiod",
        "namespace": "istio-system",
        "path": "/validate",
        "port": 443,
    }
    assert configuration_name("istio-system") == "pypilot-validator-istio-system"
    canary = webhook_configuration(KINDS, "istio-system", "canary")
    assert canary["metadata"]["name"] == "pypilot-validator-canary-istio-system"
    assert canary["webhooks"][0]["objectSelector"] == {"matchLabels": {"istio.io/rev": "canary"}}
