"""Generated messages are those of `protos/` (`make protos`)."""

from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

protoc = pytest.importorskip("grpc_tools.protoc")
ROOT = Path(__file__).parents[2]
PROTOS = sorted(path.name for path in (ROOT / "protos").glob("*.proto"))


@pytest.mark.parametrize("name", PROTOS)
def test_what_is_committed_is_what_the_proto_says(name, tmp_path):
    from importlib import import_module
    from importlib.resources import files

    out = tmp_path / "set"
    known = files("grpc_tools") / "_proto"
    virtual = f"pypilot/wire/pb/{name}"
    arguments = ["", f"--proto_path=pypilot/wire/pb={ROOT / 'protos'}", f"--proto_path={known}"]
    assert protoc.main([*arguments, f"--descriptor_set_out={out}", virtual]) == 0
    (expected,) = FileDescriptorSet.FromString(out.read_bytes()).file
    module = import_module(f"pypilot.wire.pb.{name.removesuffix('.proto')}_pb2")
    committed = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    for proto in (expected, committed):
        for message in proto.message_type:
            clear_names(message)
    assert committed == expected
    assert descriptor_pool.Default().FindFileByName(virtual)


def clear_names(message):
    """Names in JSON follow from the others."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        clear_names(nested)


def test_there_are_protos():
    assert "ca.proto" in PROTOS
