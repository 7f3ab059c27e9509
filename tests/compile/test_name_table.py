"""The name table: what makes it anew, and what does not (NDS-009)."""

import yaml

from pypilot.compile.name_table import compile_name_table
from pypilot.engine.memo import Memo
from pypilot.kinds import kind_of
from pypilot.kinds.parse import parse_object
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.golden import node

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: default}
spec: {clusterIP: 10.0.0.NUMBER, ports: [{name: http, port: 80}]}
"""
OTHERS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec: {hosts: [web], http: [{name: all, route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: default}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
endpoints: [{addresses: [10.1.0.7]}]
ports: [{name: http, port: 80}]
"""


def delta(text: str) -> Delta:
    parsed = [parse_object(kind_of(d["apiVersion"], d["kind"]), d) for d in yaml.safe_load_all(text)]
    assert all(p.object is not None for p in parsed)
    return Delta(upserts=tuple(p.object for p in parsed))


def service(name: str, number: int) -> Delta:
    return delta(SERVICE.replace("NAME", name).replace("NUMBER", str(number)))


def test_only_services_make_the_table_anew():
    world = advance(World(), service("web", 1))
    memo = Memo(world)
    before = memo.root(compile_name_table, node({}))
    world = advance(world, delta(OTHERS))
    memo.advance(world, world.changed)
    assert memo.root(compile_name_table, node({})) is before
    world = advance(world, service("api", 2))
    memo.advance(world, world.changed)
    after = memo.root(compile_name_table, node({}))
    assert after != before


def test_the_order_of_services_does_not_change_the_bytes():
    one = advance(advance(World(), service("web", 1)), service("api", 2))
    other = advance(advance(World(), service("api", 2)), service("web", 1))
    tables = [Memo(world).root(compile_name_table, node({})) for world in (one, other)]
    assert tables[0].version == tables[1].version
