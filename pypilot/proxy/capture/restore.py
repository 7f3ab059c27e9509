"""Rules to the input of `iptables-restore`, given what is there already. Pure.

One input replaces everything of ours in one go per table, however often, and leaves what is not ours alone.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pypilot.proxy.capture.rules import Rule, Table

_OURS: Final = "ISTIO_"


@dataclass(slots=True)
class _Present:
    """What a table holds of ours."""

    chains: list[str] = field(default_factory=list)
    hooks: list[Rule] = field(default_factory=list)


def read_saved(text: str) -> Mapping[str, _Present]:
    """Table -> what is ours, from the output of `iptables-save`."""
    found: dict[str, _Present] = {}
    present = _Present()
    for line in text.splitlines():
        if line.startswith("*"):
            present = found.setdefault(line[1:].strip(), _Present())
        elif line.startswith(f":{_OURS}"):
            present.chains.append(line[1:].split()[0])
        elif line.startswith("-A "):
            _, chain, *rest = shlex.split(line)
            if not chain.startswith(_OURS) and "-j" in rest and rest[-1].startswith(_OURS):
                present.hooks.append((chain, *rest))
    return found


def restore_text(wanted: Iterable[Table], saved: str) -> str:
    """The input for `iptables-restore --noflush`; empty if there is nothing to do."""
    present = read_saved(saved)
    new = {table.name: table for table in wanted}
    names = dict.fromkeys([*new, *(n for n, p in present.items() if p.chains or p.hooks)])
    return "".join(_table(new.get(name) or Table(name), present.get(name) or _Present()) for name in names)


def _table(table: Table, present: _Present) -> str:
    lines = [f"*{table.name}"]
    lines += [f":{chain} - [0:0]" for chain in table.chains]  # empties one that is there
    gone = [chain for chain in present.chains if chain not in table.chains]
    lines += [_line("-D", *hook) for hook in present.hooks]
    lines += [f"-F {chain}" for chain in gone]
    lines += [_line("-A", chain, *rule) for chain, rules in table.chains.items() for rule in rules]
    lines += [_line("-A", chain, *rule) for chain, rule in table.hooks]
    lines += [f"-X {chain}" for chain in gone]
    return "\n".join([*lines, "COMMIT", ""])


def _line(*parts: str) -> str:
    return " ".join(shlex.quote(part) if part != "!" else part for part in parts)
