"""Draft: the copy-on-write workspace in which `advance` builds the next world. Lives for one call of `advance`."""

from collections.abc import Hashable, Iterable
from typing import Any

from pypilot.kinds.base import Object
from pypilot.world.world import BucketId, Table, World


class Draft:
    """Tables of the next world; a table is copied when first written, a bucket replaced only if it differs."""

    def __init__(self, world: World) -> None:
        self.objects: dict[str, dict[tuple[str, str], Object]] = dict(world.objects)  # type: ignore[arg-type]
        self.tables: dict[Table, dict[Hashable, Any]] = dict(world.tables)  # type: ignore[arg-type]
        self.changed: set[BucketId] = set()
        self._own_objects: set[str] = set()
        self._own_tables: set[Table] = set()

    def object(self, kind: str, namespace: str, name: str) -> Any:
        """The object of that kind and key, or None."""
        return self.objects.get(kind, {}).get((namespace, name))

    def objects_of(self, kind: str) -> Iterable[Any]:
        return self.objects.get(kind, {}).values()

    def set_object(self, kind: str, key: tuple[str, str], value: Object | None) -> None:
        """Store or remove a raw object."""
        if kind not in self._own_objects:
            self.objects[kind] = dict(self.objects.get(kind, {}))
            self._own_objects.add(kind)
        if value is None:
            self.objects[kind].pop(key, None)
        else:
            self.objects[kind][key] = value

    def get(self, table: Table, key: Hashable) -> Any:
        """The bucket, or None."""
        return self.tables.get(table, {}).get(key)

    def put(self, table: Table, key: Hashable, value: Any) -> bool:
        """Set a bucket; None and the empty tuple remove it. True if it differs from what was there."""
        old = self.get(table, key)
        if value == ():
            value = None
        if old is value or old == value:
            return False
        if table not in self._own_tables:
            self.tables[table] = dict(self.tables.get(table, {}))
            self._own_tables.add(table)
        if value is None:
            del self.tables[table][key]
        else:
            self.tables[table][key] = value
        self.changed.add((table, key))
        return True
