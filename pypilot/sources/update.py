"""What a source hands over."""

from typing import NamedTuple

from pypilot.world.delta import Delta, Problem


class Update(NamedTuple):
    """A change, and everything that is wrong with the source now (not only what is new)."""

    delta: Delta
    problems: tuple[Problem, ...]
