"""Route configurations: what sidecars and gateways do with a request (VS, RDS and GW rows).

Imports nothing: what a view sees depends on some of its modules.
"""
