"""From world and view to resources: pure functions, one room a resource type, one file a feature.

Compile functions read only their arguments and the reader. Nothing here does I/O, looks at a clock, or knows a stream.
The generators that the engine calls are listed in `generators.py`.
"""
