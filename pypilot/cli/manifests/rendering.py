"""Manifests as text."""

import json
from collections.abc import Iterable
from typing import Any

import yaml


class _Plain(yaml.SafeDumper):
    """Writes what is used twice twice: not every reader of manifests knows anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def as_yaml(objects: Iterable[Any], command: str) -> str:
    """A stream of documents that says which command made it."""
    texts = [yaml.dump(data, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True) for data in objects]
    return f"# Made by `{command}`; not to be edited.\n" + "---\n".join(texts)


def as_json(objects: Iterable[Any]) -> str:
    """One List, which kubectl takes like a stream."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}, indent=1) + "\n"
