"""Clusters: outbound by service, port and subset; inbound by the workload's own ports; and the built-in ones."""

from pypilot.compile.clusters.compose import compile_clusters

__all__ = ["compile_clusters"]
