"""python -m e2e.images.build [TAG]: build both images, on base images made here where there is no registry."""

import os
import sys

from e2e.images.bases import CONTROL_PLANE, PROXY, ROOT, find_bases
from e2e.images.engine import Engine, EngineError, UnavailableError, find_engine


def build_images(engine: Engine, tag: str) -> tuple[str, str]:
    """Build both; their names.

    Raises:
        UnavailableError: there is nothing to build them on.
        EngineError: one cannot be built.
    """
    bases = find_bases(engine, os.environ)
    names = f"pypilot:{tag}", f"pypilot-proxy:{tag}"
    engine.build(CONTROL_PLANE, ROOT, names[0], bases.control_plane)
    engine.build(PROXY, PROXY.parent, names[1], bases.proxy)
    return names


if __name__ == "__main__":
    try:
        print(*build_images(find_engine(os.environ), (sys.argv[1:] or ["0.1.0"])[0]))
    except (UnavailableError, EngineError) as error:
        sys.exit(str(error))
