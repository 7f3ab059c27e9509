import pytest

from pypilot.compile.routes.domains import proxied_domains, service_domains, short_forms, usable_addresses


@pytest.mark.parametrize(
    ("host", "proxy_domain", "expected"),
    [
        ("a.ns.svc.cluster.local", "ns.svc.cluster.local", ("a.ns.svc.cluster.local.", "a", "a.ns.svc", "a.ns")),
        ("a.ns.svc.cluster.local", "other.svc.cluster.local", ("a.ns.svc.cluster.local.", "a.ns", "a.ns.svc")),
        ("a.ns.svc.other.domain", "ns.svc.cluster.local", ("a.ns.svc.other.domain.",)),
        ("api.example.com", "ns.svc.cluster.local", ("api.example.com.",)),
        ("svc.cluster.local", "ns.svc.cluster.local", ("svc.cluster.local.",)),
        ("10.0.0.1", "ns.svc.cluster.local", ()),
        ("2001:db8::1", "ns.svc.cluster.local", ()),
        ("*.example.com", "ns.svc.cluster.local", ("*.example.com.",)),
        ("foo.local.campus.net", "local.campus.net", ("foo.local.campus.net.", "foo")),
        (
            "foo.local.campus.net",
            "remote.campus.net",
            ("foo.local.campus.net.", "foo.local", "foo.local.campus"),
        ),
        ("foo.bar.local.campus.net", "campus.net", ("foo.bar.local.campus.net.", "foo.bar.local")),
        ("foo.test", "example.com", ("foo.test.",)),
        ("foo.test", "", ("foo.test.",)),
        ("campus.net", "campus.net", ("campus.net.",)),
    ],
)
def test_short_forms(host: str, proxy_domain: str, expected: tuple[str, ...]) -> None:
    assert short_forms(host, proxy_domain) == expected


def test_addresses_are_no_short_forms() -> None:
    made = service_domains(["a.example"], ["192.0.2.1", "2001:db8::1"], "ns.svc.cluster.local", headless=False)
    assert made.names == ("a.example", "a.example.", "192.0.2.1", "[2001:db8::1]")
    assert made.short == {"a.example."}


def test_pods_of_a_headless_service_have_names_below_each_domain() -> None:
    made = service_domains(["a.ns.svc.cluster.local"], [], "other.svc.cluster.local", headless=True)
    assert {name for name in made.names if name.startswith("*")} == {
        f"*.{name}" for name in made.names if not name.startswith("*")
    }


def test_proxied_domains() -> None:
    assert proxied_domains(["a", "b"], 80) == ("a", "a:80", "b", "b:80")
    assert proxied_domains(["a", "[::1]"], 8080) == ("a:8080", "[::1]:8080")


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        (True, False, ("192.0.2.1", "198.51.100.0/24")),
        (False, True, ("198.51.100.0/24", "2001:db8::1")),
        (True, True, ("192.0.2.1", "198.51.100.0/24", "2001:db8::1")),
    ],
)
def test_usable_addresses(ipv4: bool, ipv6: bool, expected: tuple[str, ...]) -> None:
    assert usable_addresses(("192.0.2.1", "198.51.100.0/24", "2001:db8::1"), ipv4, ipv6) == expected
