"""Values as they stand in variables and in ProxyConfig. What cannot be read is an error that names it. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h)")
_UNITS: Final = {"us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
PORTS: Final = range(1, 1 << 16)


class AgentError(ValueError):
    """Something is missing or cannot be read; names the variable."""


class HostPort(NamedTuple):
    """A service to connect to."""

    host: str
    port: int


def seconds_of(text: str, name: str) -> float:
    """`1h30m`, `500ms`, or plain seconds.

    Raises:
        AgentError: it is none of these.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text:
        raise AgentError(f"{name}: {text!r} is not a duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def host_port_of(text: str, name: str) -> HostPort:
    """`HOST:PORT`, `[ADDRESS]:PORT`.

    Raises:
        AgentError: it is neither.
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare and bare == host) or not port.isdecimal() or int(port) not in PORTS:
        raise AgentError(f"{name}: {text!r}: want HOST:PORT")
    return HostPort(bare, int(port))


def flag_of(environment: Mapping[str, str], name: str, default: bool = False) -> bool:
    """A variable that is true or false, as Go reads it.

    Raises:
        AgentError: it is neither.
    """
    text = environment.get(name, "")
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise AgentError(f"{name}: {text!r} is neither true nor false")
    return text in _TRUE


def number_of(environment: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    """A variable that is a whole number.

    Raises:
        AgentError: it is none, or not one of those allowed.
    """
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) not in allowed:
        raise AgentError(f"{name}: {text!r}: want a number from {allowed.start} to {allowed.stop - 1}")
    return int(text)


def json_of(environment: Mapping[str, str], name: str) -> dict[str, Any]:
    """A variable that is a JSON object.

    Raises:
        AgentError: it is none.
    """
    text = environment.get(name, "")
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        raise AgentError(f"{name}: not valid JSON") from None
    if not isinstance(found, dict):
        raise AgentError(f"{name}: not an object")
    return found


def yaml_of(text: str, name: str) -> Mapping[str, Any]:
    """A text that is an object in YAML or JSON. YAML's own reader is only loaded for what is not JSON.

    Raises:
        AgentError: it is none.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        import yaml

        try:
            found = json.loads(json.dumps(yaml.safe_load(text), default=str))  # YAML has dates, JSON has not
        except (yaml.YAMLError, ValueError, TypeError):
            raise AgentError(f"{name}: not valid YAML") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise AgentError(f"{name}: not an object")
    return found


class Fields:
    """The fields of an object, each read once as what it has to be."""

    def __init__(self, data: Mapping[str, Any], name: str) -> None:
        """`name` is the variable's, and the path in it: part of each error."""
        self._data = data
        self._name = name

    def has(self, key: str) -> bool:
        """It is there."""
        return self._data.get(key) is not None

    def _wrong(self, key: str, want: str) -> AgentError:
        return AgentError(f"{self._name}: {key}: {self._data.get(key)!r} is not {want}")

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        value = self._data.get(key)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def number(self, key: str, default: int, allowed: range = range(1 << 31)) -> int:
        """A whole number, which JSON of protobuf may also write as a text."""
        value = self._data.get(key)
        if value is None:
            return default
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
            raise self._wrong(key, "a number that it can be")
        return value

    def seconds(self, key: str, default: float) -> float:
        """A duration."""
        value = self._data.get(key)
        if value is None or value == "":
            return default
        try:
            return seconds_of(str(value), "")
        except AgentError:
            raise self._wrong(key, "a duration") from None

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._data.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self._wrong(key, "a list of texts")
        return tuple(value)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """An object."""
        value = self._data.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object")
        return value

    def scalars(self, key: str) -> dict[str, str]:
        """An object of texts; numbers and truth values are read as they are written."""
        found = {}
        for name, value in self.mapping(key).items():
            if not isinstance(value, str | int | float):
                raise self._wrong(key, "an object of texts")
            found[str(name)] = str(value).lower() if isinstance(value, bool) else str(value)
        return found

    def below(self, key: str) -> "Fields":
        """An object, and what is in it."""
        return Fields(self.mapping(key), f"{self._name}: {key}")

    def host_port(self, key: str, host_ip: str = "") -> HostPort | None:
        """`HOST:PORT`; the host may be `$(HOST_IP)`."""
        text = self.text(key)
        if not text:
            return None
        text = text.replace("$(HOST_IP)", f"[{host_ip}]" if ":" in host_ip else host_ip).replace("[[", "[")
        try:
            return host_port_of(text.replace("]]", "]"), "")
        except AgentError:
            raise self._wrong(key, "HOST:PORT") from None
