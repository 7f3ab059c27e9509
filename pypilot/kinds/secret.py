"""Kubernetes Secret (v1). Values stay out of every repr, log and dump."""

import base64
import binascii
from collections.abc import Iterable
from typing import ClassVar

from pypilot.kinds.base import Finding, Kind, Object


class Secret(Object, frozen=True, kw_only=True):
    """A Secret: `data` as stored (base64 text), `string_data` as written by hand."""

    KIND: ClassVar[str] = "Secret"

    type: str = "Opaque"
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}

    def value(self, key: str) -> bytes:
        """The bytes under a key; `stringData` wins, as the API server merges it. Empty if absent or not base64."""
        if key in self.string_data:
            return self.string_data[key].encode()
        try:
            return base64.b64decode("".join(self.data.get(key, "").split()), validate=True)
        except (binascii.Error, ValueError):
            return b""

    def __repr__(self) -> str:
        return f"Secret({self.namespace}/{self.name}, keys={sorted({*self.data, *self.string_data})})"

    __str__ = __repr__


def validate(secret: Secret) -> Iterable[Finding]:
    """Values must be base64 (the message never shows them)."""
    for key, text in secret.data.items():
        try:
            base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            yield Finding(f"data.{key}", "not valid base64")


KIND = Kind(Secret, "", ("v1",), "secrets", validate=validate, open_fields=("*",), confidential=True)
