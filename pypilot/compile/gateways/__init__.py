"""Istio Gateways as gateway proxies serve them: which ones, merged into which ports, with which TLS and listeners."""
