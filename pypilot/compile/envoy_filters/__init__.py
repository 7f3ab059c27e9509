"""EnvoyFilters: which patches a proxy gets, and what they make of finished resources (EF rows).

Patches are applied to the serialised resources of the other packages, which are never changed themselves: proxies
without patches share them as if this package were not there, and proxies with the same patches share what comes out.
"""
