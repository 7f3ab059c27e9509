"""The one error of this room."""


class InjectionError(ValueError):
    """A pod cannot be injected as it, or the mesh, asks for it; says why in words for its author."""
