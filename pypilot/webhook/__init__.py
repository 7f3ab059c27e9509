"""The validating webhook: what `pypilot validate` says of an object, said when it is written (VAL-001).

`review` is pure, `server` serves it, `registration` tells the API server of it.
"""
