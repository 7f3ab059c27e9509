"""What becomes of a PeerAuthentication of which something is wrong: what cannot be told closes the door."""

from typing import Any

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.parse import parse_object
from pypilot.kinds.peer_authentication import PeerAuthentication, PeerAuthenticationSpec

SELECTOR = {"selector": {"matchLabels": {"app": "a"}}}


def parsed(**spec: Any) -> tuple[PeerAuthenticationSpec | None, list[str]]:
    kind = kind_of("security.istio.io/v1", "PeerAuthentication")
    assert kind is not None
    found = parse_object(kind, {"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
    assert found.object is None or isinstance(found.object, PeerAuthentication)
    assert not found.clean
    errors = [f"{f.field}: {f.message}" for f in found.findings if f.severity == "error"]
    return found.object.spec if found.object is not None else None, errors


@pytest.mark.parametrize("mtls", [{"mode": "PERMISIVE"}, {"mode": 3}, {"mode": []}, "PERMISSIVE", ["STRICT"]])
def test_a_mode_that_cannot_be_told_is_strict(mtls: Any) -> None:
    spec, (error,) = parsed(mtls=mtls)
    assert spec is not None
    assert spec.mode == "STRICT"
    assert error.startswith("spec.mtls")
    assert error.endswith("until it is corrected it is STRICT")


@pytest.mark.parametrize("mtls", [{"mode": "DISABLED"}, "DISABLE"])
def test_so_is_that_of_a_port_and_the_others_keep_theirs(mtls: Any) -> None:
    spec, (error,) = parsed(
        **SELECTOR, mtls={"mode": "PERMISSIVE"}, portLevelMtls={"80": mtls, "90": {"mode": "DISABLE"}}
    )
    assert spec is not None
    assert spec.mode == "PERMISSIVE"
    assert {port: one.mode for port, one in spec.port_level_mtls.items()} == {"80": "STRICT", "90": "DISABLE"}
    assert error.startswith("spec.portLevelMtls.80")


def test_ports_that_cannot_be_told_may_be_any() -> None:
    spec, _ = parsed(**SELECTOR, mtls={"mode": "DISABLE"}, portLevelMtls=["80"])
    assert spec is not None
    assert (spec.mode, spec.port_level_mtls) == ("STRICT", {})


def test_what_is_no_port_goes_alone() -> None:
    spec, (error,) = parsed(**SELECTOR, portLevelMtls={"http": {"mode": "DISABLE"}, "90": {"mode": "STRICT"}})
    assert spec is not None
    assert list(spec.port_level_mtls) == ["90"]
    assert error.startswith("spec.portLevelMtls.http")


def test_nobody_is_guessed() -> None:
    spec, (error,) = parsed(selector={"matchLabels": {"app": 3, "b": []}}, mtls={"mode": "DISABLE"})
    assert spec is None
    assert error.startswith("spec.selector")
