"""Step 5: broken files are reported with file, line and field, and traffic does not notice.

The broken files are real ones (`deploy/demo-changes`), and a pair of certificate and key that does not match.
"""

from pathlib import Path

from pypilot.cli.demo.certificates import short
from pypilot.cli.demo.checks import Checks, settled
from pypilot.cli.demo.control_plane import Problem
from pypilot.cli.demo.stage import HOST, NAMESPACE, SECRET_FILE, SECRET_NAME, Stage

SYNTAX_FILE = "broken-syntax.yaml"
WEIGHT_FILE = "broken-weight.yaml"


async def broken_files(stage: Stage, checks: Checks) -> None:
    """Step 5."""
    async with stage.steady_client().running() as steady:
        checks.doing("adding broken files while a client keeps asking")
        await steady.wait_more(20)

        path = stage.work.add(SYNTAX_FILE)
        wrong = _line(path, " gateways:")
        await _reported(stage, checks, "bad YAML", path, fields=("",), lines=(wrong, wrong))
        await steady.wait_more(20)

        path = stage.work.add(WEIGHT_FILE)
        lines = _document(path, _line(path, "  name: broken-weight"))
        await _reported(stage, checks, "weight -5", path, fields=("spec.http[0].route[0].weight",), lines=lines)
        await steady.wait_more(20)

        mismatch = stage.certificate.with_key_of(stage.authority.issue(HOST))
        path = stage.work.write(SECRET_FILE, mismatch.secret_yaml(SECRET_NAME, NAMESPACE))
        lines = (1, len(path.read_text().splitlines()))
        await _reported(stage, checks, "key does not match", path, fields=("tls.key", "tls.crt"), lines=lines)
        await steady.wait_more(40)

        checks.doing("mending them")
        stage.work.remove(SYNTAX_FILE)
        stage.work.remove(WEIGHT_FILE)
        stage.install(stage.certificate)
        files = {SYNTAX_FILE, WEIGHT_FILE, SECRET_FILE}
        left = await settled(stage.control_plane.problems, lambda p: not _about(p, files))
        checks.equal("problems left after mending", "none", "; ".join(map(str, _about(left, files))) or "none")
        await steady.wait_more(20)
    checks.that(
        f"failed of {steady.done} requests meanwhile",
        not steady.failures,
        expected="0",
        seen=f"{len(steady.failures)}" + "".join(f" ({f})" for f in steady.failures[:1]),
    )
    shown = ", ".join(map(short, steady.serials))
    checks.equal("certificates shown meanwhile", short(stage.certificate.serial), shown)
    for envoy in stage.envoys:
        rejected = await envoy.rejected_updates()
        said = f" ({envoy.complaints()[-1]})" if rejected and envoy.complaints() else ""
        checks.that(
            f"updates refused by the {envoy.name}'s Envoy (NACK)",
            not rejected,
            expected="0",
            seen=f"{sum(rejected.values())}{said}",
        )


def _about(problems: list[Problem], files: set[str]) -> list[Problem]:
    return [p for p in problems if Path(p.file).name in files]


def _line(path: Path, beginning: str) -> int:
    """Number of the line that begins so."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith(beginning):
            return number
    raise ValueError(f"{path.name}: no line begins with {beginning!r}")


def _document(path: Path, line: int) -> tuple[int, int]:
    """First and last line of the YAML document around a line."""
    lines = path.read_text().splitlines()
    breaks = [0, *(n for n, text in enumerate(lines, 1) if text == "---"), len(lines) + 1]
    return max(n for n in breaks if n < line) + 1, min(n for n in breaks if n > line) - 1


async def _reported(
    stage: Stage, checks: Checks, what: str, path: Path, *, fields: tuple[str, ...], lines: tuple[int, int]
) -> None:
    """Check that a problem of this file is reported, with one of the fields and a line of the right document."""
    checks.doing(f"{what}: waiting for the report")

    def wanted(problem: Problem) -> bool:
        return (
            Path(problem.file).name == path.name
            and problem.severity == "error"
            and lines[0] <= problem.line <= lines[1]
            and any(field in problem.field for field in fields)
            and bool(problem.message)
        )

    problem = await stage.control_plane.wait_problem(wanted)
    field = " or ".join(fields)
    where = f"line {lines[0]}" + (f" to {lines[1]}" if lines[1] > lines[0] else "")
    expected = f"{path.name}, {where}" + (f", {field}" if field else "")
    reported = [problem] if problem else await stage.control_plane.problems()
    seen = "; ".join(map(str, reported)) or "no problem reported"
    checks.that(f"{what}: reported", problem is not None, expected=expected, seen=seen)
