"""Operations on a list of filters in a message: listener, network and HTTP filters alike (EF-010, EF-012…014)."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from pypilot.compile.envoy_filters.merge import UnmergeableError, merge_any
from pypilot.compile.envoy_filters.model import Patch, Trace

Items = Any
"""A repeated field of messages: protobuf has no type for it."""


def first_match(items: Items, matches: Callable[[Any], bool]) -> int | None:
    """Position of the first item that matches."""
    return next((i for i, item in enumerate(items) if matches(item)), None)


def insert(items: Items, position: int, value: Message) -> None:
    """Insert a copy."""
    copy = type(value)()
    copy.CopyFrom(value)
    items.insert(position, copy)


def insert_relative(items: Items, patch: Patch, matches: Callable[[Any], bool] | None) -> bool:
    """INSERT_BEFORE and INSERT_AFTER: at the first match; at the front or the end if no item is named."""
    before = patch.operation == "INSERT_BEFORE"
    at: int | None = (0 if before else len(items) - 1) if matches is None else first_match(items, matches)
    if at is None:
        return False
    insert(items, at if before else at + 1, patch.value)
    return True


def edit(items: Items, patch: Patch, matches: Callable[[Any], bool] | None) -> bool:
    """All operations but MERGE; True if something changed.

    Args:
        matches: None if the patch names no item.
    """
    match patch.operation:
        case "ADD":
            insert(items, len(items), patch.value)
            return True
        case "INSERT_FIRST":
            insert(items, 0, patch.value)
            return True
        case "INSERT_BEFORE" | "INSERT_AFTER":
            return insert_relative(items, patch, matches)
        case "REPLACE" if matches is not None:
            at = first_match(items, matches)
            if at is not None:
                items[at].CopyFrom(patch.value)
            return at is not None
        case "REMOVE" if matches is not None:
            gone = [i for i, item in enumerate(items) if matches(item)]
            for i in reversed(gone):
                del items[i]
            return bool(gone)
        case _:
            return False


def merge_filter(target: Any, patch: Patch, trace: Trace, renames: bool = True) -> None:
    """MERGE into one filter: its typed configuration is merged as a message, and its name replaced if one is given."""
    if not target.HasField("typed_config"):
        return
    value = patch.value
    if value.HasField("typed_config"):
        try:
            merge_any(target.typed_config, value.typed_config)
        except UnmergeableError as error:
            trace.note(patch, f"{error} (filter {target.name!r})")
            return
    if renames and value.name:
        target.name = value.name
    trace.done(patch)
