"""One file a feature of routing: each turns one field of an API message into the Envoy fields that carry it out."""
