"""Who may call whom: PeerAuthentication, RequestAuthentication and AuthorizationPolicy, as filters and TLS modes.

*Resolve* (`selection`): which policies hold for a workload. *Compile*: the filters of such a set, made once for all
workloads with it.
"""
