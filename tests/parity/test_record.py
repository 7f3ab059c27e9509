from pathlib import Path

import pytest

from bench.archive import extract
from bench.recordings import compiled, engine_for, nodes, recorded
from pypilot.wire.types import BY_SHORT
from tests.app.serving import serving
from tests.parity.record import read_node, record, write


@pytest.mark.parametrize("name", ["bookinfo", "envoyfilter-http", "gateway-tls-mutual"])
async def test_what_is_recorded_is_what_is_compiled(name: str, tmp_path: Path) -> None:
    scenario = extract(name, tmp_path)
    engine = engine_for(scenario)
    config = (tmp_path / "cluster.yaml", scenario / "world.yaml")
    async with serving(*config, mesh_config=str(scenario / "mesh.yaml")) as child:
        address = f"127.0.0.1:{child.ready['xds']}"
        for node, proxy in nodes(scenario):
            held = await record(
                address, read_node(scenario / "nodes" / f"{node}.json"), quiet=1, longest=60, kinds=BY_SHORT
            )
            write(held, tmp_path / "out" / node)
            expected = compiled(engine, proxy)
            assert expected["CDS"]
            assert recorded(tmp_path / "out" / node) == expected
