"""Keys and certificates of the control plane: the root, what it signs, and where its certificate is published.

`x509` is pure; the rest reads and writes objects of the API server. Which peers are let in is decided in `xds`.
"""
