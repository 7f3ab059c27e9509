"""`pypilot demo`: the control plane, real Envoys and real traffic on one machine, each claim checked.

`envoy`, `netns`, `backends`, `certificates` and `clients` know nothing of the demo's steps: the end-to-end tests use
them too. Nothing here may be imported by the rest of pypilot.
"""
