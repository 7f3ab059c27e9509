"""From the bytes of list pages and watch events to kinds. Pure; one wrong object never costs another.

Objects go straight into the structs of their kind: managedFields, container specs and all else that those do not have
is skipped, not kept. What pypilot never reads of the rest is cut off here too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from pypilot.kinds.base import Finding, Kind, Object
from pypilot.kinds.parse import decode_object
from pypilot.kube.errors import ApiError, BrokenStreamError, ExpiredError, Status
from pypilot.sources.kubernetes.slimming import Slimmer

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object as the server has it now."""

    object: Object | None
    """What of it can be used."""
    is_clean: bool
    findings: tuple[Finding, ...] = ()
    created: str = ""
    """Its creationTimestamp, also where there is no object."""
    is_new: bool = False
    """True if the server says that it was just created: what had its name before was another object."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: dict[Key, Item]
    version: str
    next: str
    """Token of the next page; empty on the last."""


@dataclass(slots=True)
class Batch:
    """What some watch events say."""

    changes: dict[Key, Item | None] = field(default_factory=dict)
    """The last state of each object; None if it is gone."""
    version: str = ""
    """The resourceVersion to go on from; empty if there was no event."""


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    created: str | None = msgspec.field(name="creationTimestamp", default=None)
    resource_version: str = msgspec.field(name="resourceVersion", default="")


class _Envelope(msgspec.Struct):
    metadata: _Meta


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    next: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_List)
_EVENT = msgspec.json.Decoder(_Event)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_STATUS = msgspec.json.Decoder(Status)


class ObjectDecoder:
    """Reads the objects of one kind in one served version."""

    def __init__(self, kind: Kind, version: str) -> None:
        self.kind = kind
        self._slimmer = Slimmer()
        # Lists of built-in kinds leave apiVersion out of their items, watches do not.
        self._api_version = f"{kind.group}/{version}" if kind.group else version

    def page(self, body: bytes) -> Page:
        """Read a page of a list.

        Raises:
            BrokenStreamError: it is not a list.
        """
        try:
            page = _LIST.decode(body)
            items = dict(self._items(page.items or []))
        except msgspec.DecodeError as error:
            raise BrokenStreamError(f"not a list: {error}") from error
        return Page(items, page.metadata.resource_version, page.metadata.next)

    def _items(self, raws: Iterable[msgspec.Raw]) -> Iterator[tuple[Key, Item]]:
        for raw in raws:
            meta = _ENVELOPE.decode(raw).metadata
            item = self._item(raw, meta, is_new=False)
            if item is not None:
                yield (meta.namespace, meta.name), item

    def event(self, line: bytes, batch: Batch) -> None:
        """Add what one watch event says to `batch`.

        Raises:
            BrokenStreamError: it is not an event.
            ExpiredError: the server no longer knows the resourceVersion.
            ApiError: the server says that it cannot go on.
        """
        try:
            event = _EVENT.decode(line)
            if event.type == "ERROR":
                status = _STATUS.decode(event.object)
                if status.code == 410:
                    raise ExpiredError(status.message)
                raise ApiError(status.code or 500, status.message or status.reason)
            meta = _ENVELOPE.decode(event.object).metadata
        except msgspec.DecodeError as error:
            raise BrokenStreamError(f"not a watch event: {error}") from error
        key = (meta.namespace, meta.name)
        if event.type in ("ADDED", "MODIFIED"):
            batch.changes[key] = self._item(event.object, meta, is_new=event.type == "ADDED")
        elif event.type == "DELETED":
            batch.changes[key] = None
        batch.version = meta.resource_version or batch.version

    def _item(self, raw: msgspec.Raw, meta: _Meta, *, is_new: bool) -> Item | None:
        """Read one object; None if it holds nothing that pypilot could need."""
        created = meta.created or ""
        try:
            parsed = decode_object(self.kind, raw)
        except Exception as error:  # text that is not UTF-8, or a check of ours that fails: it costs this object alone
            return Item(None, False, (Finding("", f"cannot be read: {type(error).__name__}"),), created, is_new)
        obj = parsed.object
        if obj is not None:
            # The object is not shared with anyone yet, so it is still ours to complete.
            msgspec.structs.force_setattr(obj, "api_version", self._api_version)
            if not self._slimmer.slim(obj):
                return None
        return Item(obj, parsed.clean, parsed.findings, created, is_new)
