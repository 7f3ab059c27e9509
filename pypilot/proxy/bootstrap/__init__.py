"""Envoy's bootstrap. Large to import: it is rendered in a process that ends."""
