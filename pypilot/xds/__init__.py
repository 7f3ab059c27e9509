"""Serving: ADS streams, subscriptions, acknowledgements, and who may connect.

`subscription`, `session`, `sotw`, `delta`, `response` and `shared` are pure protocol; `connection` and `server` do the
I/O. The engine is reached only through the `Catalog` protocol: nothing here knows how a resource is made.
"""
