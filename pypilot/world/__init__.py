"""The world: everything known, as frozen indexes, and how a delta turns one world into the next.

`reader.Reader` is the only door to a world for the rooms above. Nothing here does I/O, knows Envoy, or asks who wants
to know.
"""
