"""Kubernetes manifests that follow from the registry of kinds: resource definitions, access rules, webhook rules.

Everything here is plain data made from `KINDS`; nothing asks a cluster.
"""
