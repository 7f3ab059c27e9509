"""What the leader keeps right in the objects that users wrote: their status.

What to write is decided by pure functions elsewhere (`world.allocation`); here it is carried to the API server. Must
not know proxies.
"""
