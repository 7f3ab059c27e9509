"""Patches to listeners and all that is inside them (EF-009…017). Works on a copy that its caller made.

Order, as istiod has it: the listener, its listener filters, then chain by chain the chain, its network filters
(insertions and removals, then merges) and the HTTP filters of connection managers; additions of chains last.
"""

from functools import partial
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf.message import DecodeError

from pypilot.compile.envoy_filters.matching import (
    chain_matches,
    filter_matches,
    http_filter_matches,
    listener_matches,
    named_listener_filter,
    names_filter,
    names_http_filter,
)
from pypilot.compile.envoy_filters.merge import UnmergeableError, merge, merge_any
from pypilot.compile.envoy_filters.model import Patch, Trace
from pypilot.compile.envoy_filters.routes import patch_configuration
from pypilot.compile.envoy_filters.sequence import edit, insert, merge_filter
from pypilot.compile.listeners.inbound_tunnel import CONNECT_TERMINATE
from pypilot.compile.messages import pack
from pypilot.kinds.envoy_filter_validation import MANAGER, ROUTE_PARTS


class ListenerPatcher:
    """Applies patches to one listener."""

    def __init__(self, listener: Any, patches: tuple[Patch, ...], trace: Trace, inbound: bool) -> None:
        self.listener = listener
        self.trace = trace
        self.patches = patches
        self.by_kind: dict[str, list[Patch]] = {}
        routes = tuple(p for p in patches if p.apply_to in ROUTE_PARTS)
        self.routes = routes if inbound and listener.name != CONNECT_TERMINATE else ()

    def apply(self) -> bool:
        """False if the listener is removed."""
        self._patch_inline_routes()
        for patch in self.patches:
            if patch.apply_to != "LISTENER" or not listener_matches(self.listener, patch):
                continue
            self.trace.begin(patch)
            if patch.operation == "REMOVE":
                self.trace.done(patch)
                return False
            if patch.merges:
                merge(self.listener, patch.value, patch.operation == "MERGE_AND_REPLACE_LIST")
                self.trace.done(patch)
        for patch in self.patches:  # the listener is now what patches of its parts match
            if patch.apply_to not in ROUTE_PARTS and listener_matches(self.listener, patch):
                self.by_kind.setdefault(patch.apply_to, []).append(patch)
        self._patch_listener_filters()
        self._patch_chains()
        return True

    def _patch_listener_filters(self) -> None:
        filters = self.listener.listener_filters
        for patch in self.by_kind.get("LISTENER_FILTER", ()):
            self.trace.begin(patch)
            wanted = named_listener_filter(patch)
            if patch.operation != "MERGE":
                matches = (lambda item, name=wanted: item.name == name) if wanted else None
                self.trace.done(patch, edit(filters, patch, matches))
                continue
            for item in filters if wanted else ():
                if item.name == wanted:
                    merge_filter(item, patch, self.trace, renames=False)

    # -- chains -------------------------------------------------------------------------------------------------------

    def _patch_chains(self) -> None:
        listener = self.listener
        chains = listener.filter_chains
        gone = [i for i, chain in enumerate(chains) if not self._patch_chain(chain)]
        if listener.default_filter_chain.filters and not self._patch_chain(listener.default_filter_chain):
            listener.ClearField("default_filter_chain")
        for patch in self.by_kind.get("FILTER_CHAIN", ()):
            if patch.operation == "ADD" and patch.value.filters:
                self.trace.begin(patch)
                insert(chains, len(chains), patch.value)
                self.trace.done(patch)
        for i in reversed(gone):
            del chains[i]

    def _patch_chain(self, chain: Any) -> bool:
        """False if the chain is removed (EF-017)."""
        for patch in self.by_kind.get("FILTER_CHAIN", ()):
            if patch.operation == "ADD" or not chain_matches(self.listener, chain, patch):
                continue
            self.trace.begin(patch)
            if patch.operation == "REMOVE":
                self.trace.done(patch)
                return False
            if patch.merges:
                self._merge_chain(chain, patch)
        self._patch_network_filters(chain)
        return True

    def _merge_chain(self, chain: Any, patch: Patch) -> None:
        """A transport socket of the same name is merged inside, and then nothing else of the value is (EF-011)."""
        value = patch.value
        both = value.HasField("transport_socket") and chain.HasField("transport_socket")
        if not both or value.transport_socket.name != chain.transport_socket.name:
            merge(chain, value, patch.operation == "MERGE_AND_REPLACE_LIST")
        elif not merge_socket(chain.transport_socket, patch, self.trace):
            return
        self.trace.done(patch)

    # -- network filters ----------------------------------------------------------------------------------------------

    def _patch_network_filters(self, chain: Any) -> None:
        patches = [p for p in self.by_kind.get("NETWORK_FILTER", ()) if chain_matches(self.listener, chain, p)]
        for patch in patches:
            if patch.operation != "MERGE":
                self.trace.begin(patch)
                matches = partial(_flipped, filter_matches, patch) if names_filter(patch) else None
                self.trace.done(patch, edit(chain.filters, patch, matches))
        for item in chain.filters:
            for patch in patches:  # EF-015: after insertions
                if patch.operation == "MERGE" and filter_matches(item, patch):
                    self.trace.begin(patch)
                    merge_filter(item, patch, self.trace)
            if item.name == MANAGER and item.HasField("typed_config"):
                self._patch_manager(chain, item)

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def _patch_manager(self, chain: Any, item: Any) -> None:
        patches = [
            p
            for p in self.by_kind.get("HTTP_FILTER", ())
            if chain_matches(self.listener, chain, p) and filter_matches(item, p)
        ]
        manager = hcm_pb2.HttpConnectionManager()
        if not patches or not item.typed_config.Is(manager.DESCRIPTOR):
            return
        try:
            item.typed_config.Unpack(manager)
        except DecodeError:
            return
        for patch in patches:
            if patch.operation != "MERGE":
                self.trace.begin(patch)
                matches = partial(_flipped, http_filter_matches, patch) if names_http_filter(patch) else None
                self.trace.done(patch, edit(manager.http_filters, patch, matches))
        for http_filter in manager.http_filters:
            for patch in patches:
                if patch.operation == "MERGE" and http_filter_matches(http_filter, patch):
                    self.trace.begin(patch)
                    merge_filter(http_filter, patch, self.trace)
        item.typed_config.CopyFrom(pack(manager))

    def _patch_inline_routes(self) -> None:
        """The routes of inbound connection managers, which istiod patches before the listener (EF-018…020)."""
        if not self.routes:
            return
        for item in (item for chain in self.listener.filter_chains for item in chain.filters):
            manager = hcm_pb2.HttpConnectionManager()
            if item.name == MANAGER and item.typed_config.Is(manager.DESCRIPTOR):
                item.typed_config.Unpack(manager)
                if manager.HasField("route_config"):
                    patch_configuration(manager.route_config, self.routes, self.trace, gateway=False)
                    item.typed_config.CopyFrom(pack(manager))


def _flipped(matches: Any, patch: Patch, item: Any) -> bool:
    return bool(matches(item, patch))


def merge_socket(target: Any, patch: Patch, trace: Trace) -> bool:
    """Merge the typed configuration of a patch's transport socket; False if it cannot be (EF-011, EF-021)."""
    value = patch.value.transport_socket
    if not (target.HasField("typed_config") and value.HasField("typed_config")):
        return True
    try:
        merge_any(target.typed_config, value.typed_config)
    except UnmergeableError as error:
        trace.note(patch, f"{error} (transport socket {target.name!r})")
        return False
    return True
