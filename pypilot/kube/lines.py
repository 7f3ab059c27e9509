"""A watch is a stream of lines, and comes in chunks that know nothing of them. Pure."""


class Lines:
    """Chunks to lines. What was cut in the middle never counts."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of one line: joined once, however many chunks a large object takes

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes."""
        first, *rest = chunk.split(b"\n")
        self._pieces.append(first)
        if not rest:
            return []
        *lines, last = (b"".join(self._pieces), *rest)
        self._pieces = [last]
        return lines
