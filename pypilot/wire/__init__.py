"""What crosses the wire: type URLs and push order, serialised resources, and the identity of a proxy.

Nothing here knows Istio or Kubernetes resources, and nothing here does I/O.
"""
