"""The Kubernetes API as this process uses it: a connection, and the few calls that are no list and no watch.

Knows requests and answers only; what is read by list and watch is `sources.kubernetes`' business.
"""
