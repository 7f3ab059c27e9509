"""A pod's traffic goes to its Envoy: what to capture (`plan`), the rules for it (`rules`), and the kernel (`kernel`).

`plan` and `rules` are pure.
"""
