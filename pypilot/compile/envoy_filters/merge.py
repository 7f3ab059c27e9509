"""How a patch is merged into a message (EF-008): set fields win, lists are appended or replaced, durations replaced.

As in proto3, a scalar at its default is not set: `false` and `0` change nothing, in wrapper messages neither.
"""

from google.protobuf import any_pb2, message_factory
from google.protobuf.message import DecodeError, Message

from pypilot.compile.messages import pack
from pypilot.wire.decode import find_descriptor

_DURATION = "google.protobuf.Duration"


class UnmergeableError(ValueError):
    """Two typed configurations that cannot be merged."""


def merge(target: Message, source: Message, replace_lists: bool = False) -> None:
    """Merge `source` into `target`, in place; `source` stays as it is."""
    for field, value in source.ListFields():
        mine = getattr(target, field.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            if kind.fields_by_name["value"].message_type is None:
                mine.update(value)
            else:
                for key in value:
                    mine[key].CopyFrom(value[key])
        elif isinstance(mine, Message):
            if mine.DESCRIPTOR.full_name == _DURATION:
                mine.CopyFrom(value)
            else:
                mine.SetInParent()
                merge(mine, value, replace_lists)
        elif hasattr(mine, "extend"):
            if replace_lists:
                del mine[:]
            mine.extend(value)
        else:
            setattr(target, field.name, value)


def open_any(packed: any_pb2.Any) -> Message | None:
    """The message in an Any; None if its type is unknown or its bytes are not such a message."""
    descriptor = find_descriptor(packed.type_url.rpartition("/")[2])
    if descriptor is None:
        return None
    message: Message = message_factory.GetMessageClass(descriptor)()
    try:
        message.ParseFromString(packed.value)
    except DecodeError:
        return None
    return message


def merge_any(target: any_pb2.Any, source: any_pb2.Any) -> None:
    """Merge the messages inside, in place. Lists in them are always appended.

    Raises:
        UnmergeableError: they are of different or of unknown types.
    """
    mine, theirs = open_any(target), open_any(source)
    names = [packed.type_url.rpartition("/")[2] for packed in (target, source)]
    if names[0] != names[1]:
        raise UnmergeableError(f"a {names[1]} cannot be merged into a {names[0]}")
    if mine is None or theirs is None:
        raise UnmergeableError(f"a {names[0]} cannot be opened")
    merge(mine, theirs)
    target.CopyFrom(pack(mine))
