"""How much processor a container may use, as the kernel tells it: cgroup v2, else v1."""

import math
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def processors(root: Path = ROOT) -> int:
    """The limit in whole processors, rounded up; 0 if there is none."""
    match _words(root / "cpu.max"):
        case [quota, period] if quota.isdecimal() and period.isdecimal():
            pass
        case _:
            found = [_words(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            quota, period = (words[0] if len(words) == 1 else "" for words in found)
    if not quota.isdecimal() or not period.isdecimal() or not int(period):
        return 0
    return math.ceil(int(quota) / int(period))
