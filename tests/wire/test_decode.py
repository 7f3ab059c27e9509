import hashlib
import json
import subprocess
import sys

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from google.protobuf import any_pb2, wrappers_pb2

from pypilot.wire.decode import REDACTED, cover_sensitive, resource_to_dict
from pypilot.wire.istio_messages import find_istio_message
from pypilot.wire.resource import Resource
from pypilot.wire.types import LISTENER, SECRET

KEY = b"-----BEGIN PRIVATE KEY----- not really"


def secret(message: secret_pb2.Secret) -> dict[str, object]:
    return resource_to_dict(Resource.of(message.name, SECRET, message.SerializeToString()))


def listener_with(packed: any_pb2.Any) -> dict[str, object]:
    filter_ = listener_components_pb2.Filter(name="f", typed_config=packed)
    chain = listener_components_pb2.FilterChain(filters=[filter_])
    message = listener_pb2.Listener(name="l", filter_chains=[chain])
    decoded = resource_to_dict(Resource.of("l", LISTENER, message.SerializeToString()))
    out = decoded["filter_chains"][0]["filters"][0]["typed_config"]
    assert isinstance(out, dict)
    return out


def test_a_private_key_is_shown_as_its_hash() -> None:
    for source in (base_pb2.DataSource(inline_bytes=KEY), base_pb2.DataSource(inline_string=KEY.decode())):
        certificate = common_pb2.TlsCertificate(
            private_key=source, certificate_chain=base_pb2.DataSource(inline_bytes=b"chain")
        )
        decoded = secret(secret_pb2.Secret(name="s", tls_certificate=certificate))
        assert decoded == {
            "name": "s",
            "tls_certificate": {
                "certificate_chain": {"inline_bytes": "Y2hhaW4="},
                "private_key": {"inline_string": f"sha256:{hashlib.sha256(KEY).hexdigest()}"},
            },
        }


def test_every_other_secret_is_covered() -> None:
    source = base_pb2.DataSource(inline_string="hunter2")
    messages = [
        secret_pb2.Secret(generic_secret=secret_pb2.GenericSecret(secret=source)),
        secret_pb2.Secret(generic_secret=secret_pb2.GenericSecret(secrets={"a": source})),
        secret_pb2.Secret(session_ticket_keys=common_pb2.TlsSessionTicketKeys(keys=[source, source])),
        secret_pb2.Secret(tls_certificate=common_pb2.TlsCertificate(password=source, pkcs12=source)),
    ]
    for message in messages:
        text = json.dumps(secret(message))
        assert "hunter2" not in text
        assert REDACTED in text


def test_a_secret_within_a_packed_message_is_covered_too() -> None:
    certificate = common_pb2.TlsCertificate(private_key=base_pb2.DataSource(inline_bytes=KEY))
    packed = any_pb2.Any()
    packed.Pack(secret_pb2.Secret(name="inner", tls_certificate=certificate))
    out = json.dumps(listener_with(packed))
    assert "sha256:" in out
    assert "not really" not in out


def test_the_name_of_a_key_file_is_no_secret() -> None:
    certificate = common_pb2.TlsCertificate(private_key=base_pb2.DataSource(filename="/etc/key.pem"))
    decoded = secret(secret_pb2.Secret(tls_certificate=certificate))
    assert decoded == {"tls_certificate": {"private_key": {"filename": "/etc/key.pem"}}}


def test_packed_messages_are_opened_at_every_depth() -> None:
    inner = any_pb2.Any()
    inner.Pack(wrappers_pb2.StringValue(value="deep"))
    hcm = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix="x", http_filters=[http_connection_manager_pb2.HttpFilter(name="g", typed_config=inner)]
    )
    packed = any_pb2.Any()
    packed.Pack(hcm)
    out = listener_with(packed)
    assert out["stat_prefix"] == "x"
    assert out["http_filters"] == [
        {"name": "g", "typed_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "deep"}}
    ]


def test_what_cannot_be_decoded_is_named_and_not_shown() -> None:
    for packed in (
        any_pb2.Any(type_url="type.googleapis.com/no.such.Type", value=b"hunter2"),
        any_pb2.Any(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster", value=b"\xff hunter2"),
        any_pb2.Any(type_url="type.googleapis.com/os.path.Thing", value=b"hunter2"),
    ):
        text = json.dumps(listener_with(packed))
        assert packed.type_url.rpartition("/")[2] in text
        assert "hunter2" not in text
    unknown = Resource.of("x", "type.googleapis.com/no.such.Type", b"hunter2")
    assert "hunter2" not in json.dumps(resource_to_dict(unknown))


def test_istios_own_messages_are_decoded() -> None:
    name = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
    # alpn_override[0] = {upstream_protocol: HTTP2 (2), alpn_override: ["istio", "h2"]}, by hand
    body = b"\x08\x02\x12\x05istio\x12\x02h2"
    packed = any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=b"\x0a" + bytes([len(body)]) + body)
    assert listener_with(packed) == {
        "@type": packed.type_url,
        "alpn_override": [{"upstream_protocol": "HTTP2", "alpn_override": ["istio", "h2"]}],
    }
    assert find_istio_message("istio.nothing") is None


def test_only_the_modules_that_are_needed_are_imported() -> None:
    """In a process of its own: decoding one type must not load the hundreds of others."""
    code = (
        "import sys\n"
        "from pypilot.wire.decode import resource_to_dict\n"
        "from pypilot.wire.resource import Resource\n"
        "r = Resource.of('c', 'type.googleapis.com/envoy.config.cluster.v3.Cluster', b'\\x0a\\x01c')\n"
        "assert resource_to_dict(r) == {'name': 'c'}\n"
        "assert not any('http_connection_manager' in m for m in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_another_rule_of_what_is_covered() -> None:
    certificate = common_pb2.TlsCertificate(
        private_key=base_pb2.DataSource(inline_string="k"), password=base_pb2.DataSource(inline_string="p")
    )
    message = secret_pb2.Secret(name="s", tls_certificate=certificate)
    resource = Resource.of("s", SECRET, message.SerializeToString())
    decoded = resource_to_dict(resource, lambda m, f, v: f.name == "private_key" and cover_sensitive(m, f, v))
    assert decoded["tls_certificate"]["password"] == {"inline_string": "p"}
    assert decoded["tls_certificate"]["private_key"]["inline_string"].startswith("sha256:")
