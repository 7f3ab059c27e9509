"""End-to-end tests: a real Envoy, real sockets, real network namespaces."""
