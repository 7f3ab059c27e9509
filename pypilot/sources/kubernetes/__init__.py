"""A Kubernetes cluster as a source: list and watch every kind, survive what an API server does, give Deltas.

Two halves. Pure, without I/O: `decoding` and `slimming` (bytes to kinds), `store` (what a kind's objects are, and what
changed), `plan` (what to ask for). With I/O, over `pypilot.kube.connection`: `reflector` (one kind), `discovery` and
`definitions` (which kinds there are), `source` (all).
"""
