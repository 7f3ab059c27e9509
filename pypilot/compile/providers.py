"""Which service an extension provider of MeshConfig means (MESH-024)."""

from pypilot.world.reader import Reader


def provider_hostname(reader: Reader, service: str) -> str:
    """The host of `HOST` or `NAMESPACE/HOST` if exactly one service is meant, else the empty string."""
    owner, slash, host = service.rpartition("/")
    known = [key for key in reader.services_of(host) if not slash or key.namespace == owner]
    return host if len(known) == 1 and "*" not in host else ""
