"""Shows the demo on a terminal: a line as each check is made, a table at the end; or the same as JSON.

Only shows: what is true is decided in `checks`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from pypilot.cli.demo.checks import Checks, LeftOut, Row


class Reporter:
    """Prints what happens; on a terminal it also says what is being waited for."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None

    def __enter__(self) -> "Reporter":
        if self.console.is_terminal:
            self._status = self.console.status("starting")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def rest(self) -> None:
        """Stop the spinner."""
        if self._status is not None:
            with suppress(Exception):
                self._status.stop()
            self._status = None

    def step(self, number: int, title: str) -> None:
        self.console.print(f"\n[bold]{number}. {escape(title)}[/]" if number else f"[bold]{escape(title)}[/]")
        self.doing(title)

    def doing(self, what: str) -> None:
        if self._status is not None:
            self._status.update(escape(what))

    def row(self, row: Row) -> None:
        if row.ok:
            self._line(f"  [green]✓[/] {escape(row.what)}: {escape(row.seen)}")
        else:
            self._line(f"  [bold red]✗ {escape(row.what)}[/]")
            self._line(f"      expected {escape(row.expected)}")
            self._line(f"      seen     [red]{escape(row.seen)}[/]")

    def left_out(self, entry: LeftOut) -> None:
        self._line(f"  [yellow]–[/] left out: {escape(entry.reason)}")

    def say(self, line: str) -> None:
        self._line(escape(line))

    def _line(self, markup: str) -> None:
        self.console.print(markup, highlight=False, soft_wrap=True)


def table(checks: Checks, titles: Sequence[str]) -> Table:
    """What was seen, a row a check."""
    out = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "Check", "Expected", "Seen"):
        out.add_column(heading, overflow="fold")
    omitted = {entry.step: entry.reason for entry in checks.omitted}
    for number, title in enumerate(titles, 1):
        rows = [row for row in checks.rows if row.step == number]
        mark = "[yellow]–[/]" if not rows else "[green]✓[/]" if all(r.ok for r in rows) else "[red]✗[/]"
        note = f"left out: {omitted[number]}" if number in omitted else "" if rows else "not reached"
        out.add_row(mark, f"[bold]{number}. {escape(title)}[/]", "", escape(note))
        for row in rows:
            sign = "[green]✓[/]" if row.ok else "[red]✗[/]"
            out.add_row(sign, escape(row.what), escape(row.expected), escape(row.seen))
        out.add_section()
    return out


def as_json(checks: Checks, titles: Sequence[str], seconds: float) -> str:
    """The table as JSON."""
    return json.dumps(
        {
            "ok": checks.ok,
            "seconds": round(seconds, 1),
            "steps": [
                {
                    "step": number,
                    "title": title,
                    "left_out": next((e.reason for e in checks.omitted if e.step == number), None),
                    "checks": [
                        {"what": r.what, "expected": r.expected, "seen": r.seen, "ok": r.ok}
                        for r in checks.rows
                        if r.step == number
                    ],
                }
                for number, title in enumerate(titles, 1)
            ],
        },
        indent=2,
    )
