"""What a sidecar adds to a pod (INJ rows): whether, what, and as which JSON patch.

Pure: plain JSON in, plain JSON out. Must not ask an API server, nor know who asks.
"""
