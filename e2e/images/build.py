"""python -m e2e.images.build [TAG]: build all images, on base images made here where there is no registry."""

import os
import sys
from typing import NamedTuple

from e2e.images.bases import CONTROL_PLANE, PROXY, ROOT, SIDECAR, find_bases
from e2e.images.engine import Engine, EngineError, UnavailableError, find_engine


class Images(NamedTuple):
    """Names of images."""

    control_plane: str
    proxy: str
    sidecar: str


def build_images(engine: Engine, tag: str) -> Images:
    """Build all; their names.

    Raises:
        UnavailableError: there is nothing to build them on.
        EngineError: one cannot be built.
    """
    bases = find_bases(engine, os.environ)
    names = Images(f"pypilot:{tag}", f"pypilot-proxy:{tag}", f"pypilot-sidecar:{tag}")
    engine.build(CONTROL_PLANE, ROOT, names.control_plane, bases.control_plane)
    engine.build(PROXY, PROXY.parent, names.proxy, bases.proxy)
    engine.build(SIDECAR, ROOT, names.sidecar, {**bases.sidecar, "PROXY_IMAGE": names.proxy})
    return names


if __name__ == "__main__":
    try:
        print(*build_images(find_engine(os.environ), (sys.argv[1:] or ["0.1.0"])[0]))
    except (UnavailableError, EngineError) as error:
        sys.exit(str(error))
