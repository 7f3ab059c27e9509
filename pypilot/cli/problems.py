"""How problems are shown on a command line: one line each, `file:line: severity: object: field: message [code]`."""

from collections.abc import Iterable

import click

from pypilot.world.delta import Problem

_COLOURS = {"error": "red", "warning": "yellow"}


def problem_line(problem: Problem) -> str:
    """The line, styled; click takes the colours out where there is no terminal."""
    where = click.style(f"{problem.origin}: ", bold=True) if problem.origin else ""
    severity = click.style(problem.severity, fg=_COLOURS[problem.severity])
    what = [str(problem.ref)] if problem.ref else []
    text = ": ".join([*what, *([problem.field] if problem.field else []), problem.message])
    return f"{where}{severity}: {text} [{problem.code}]"


def counted(problems: Iterable[Problem]) -> str:
    """`2 errors, 1 warning`."""
    severities = [p.severity for p in problems]
    parts = []
    for severity in ("error", "warning"):
        count = severities.count(severity)
        parts.append(f"{count or 'no'} {severity}{'' if count == 1 else 's'}")
    return ", ".join(parts)
