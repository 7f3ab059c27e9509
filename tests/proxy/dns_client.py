"""The other side of DNS: queries as clients send them, and answers read without the product's code."""

import asyncio
import ipaddress
import struct
from dataclasses import dataclass, field

KINDS = {1: "A", 5: "CNAME", 28: "AAAA", 16: "TXT"}
NUMBERS = {name: number for number, name in KINDS.items()}


def query(name, kind="A", number=7, size=0, questions=1, flags=0x0100):
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.rstrip(".").split(".") if p)
    data = struct.pack("!6H", number, flags, questions, 0, 0, 1 if size else 0)
    data += (labels + b"\0" + struct.pack("!HH", NUMBERS[kind], 1)) * questions
    return data + (b"\0" + struct.pack("!HHIH", 41, size, 0, 0) if size else b"")


@dataclass
class Answer:
    number: int
    code: int
    truncated: bool
    authoritative: bool
    question: str
    records: list = field(default_factory=list)
    extended: bool = False

    def of(self, kind):
        return sorted(value for _, k, _, value in self.records if k == kind)


def _name(data, at):
    labels, end = [], None
    while True:
        length = data[at]
        if length >= 0xC0:
            end = end or at + 2
            at = int.from_bytes(data[at : at + 2], "big") & 0x3FFF
        elif length:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        else:
            return ".".join(labels) + ".", end or at + 1


def read(data):
    number, flags, questions, answers, authority, more = struct.unpack_from("!6H", data)
    assert flags & 0x8000
    name, at = _name(data, 12) if questions else ("", 12)
    at += 4 if questions else 0
    found = Answer(number, flags & 0xF, bool(flags & 0x200), bool(flags & 0x400), name)
    for index in range(answers + authority + more):
        owner, at = _name(data, at)
        kind, _, ttl, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        value = data[at : at + length]
        if kind == 5:
            value = _name(data, at)[0]
        elif kind in (1, 28):
            value = str(ipaddress.ip_address(value))
        at += length
        if index < answers:
            found.records.append((owner, KINDS.get(kind, kind), ttl, value))
        found.extended |= kind == 41
    assert at == len(data), "nothing follows"
    return found


def reply(data, *addresses, truncated=False, code=0, padding=0):
    """An answer to a query, of A records."""
    number, _, *_ = struct.unpack_from("!6H", data)
    end = _name(data, 12)[1] + 4
    records = b"".join(
        struct.pack("!HHHIHI", 0xC00C, 1, 1, 60, 4, int(ipaddress.ip_address(a))) for a in addresses
    ) + b"".join(struct.pack("!HHHIH", 0xC00C, 16, 1, 60, 200) + b"x" * 200 for _ in range(padding))
    flags = 0x8180 | code | (0x200 if truncated else 0)
    return struct.pack("!6H", number, flags, 1, len(addresses) + padding, 0, 0) + data[12:end] + records


class Resolver(asyncio.DatagramProtocol):
    """A resolver for both transports: `answers` makes a reply of a query, or None to be silent."""

    def __init__(self, answers):
        self.answers = answers
        self.seen = []

    async def start(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.address = self.transport.get_extra_info("sockname")
        self.server = await asyncio.start_server(self._stream, *self.address)
        return self

    async def start_at(self, datagrams, listening):
        """On sockets that somebody made elsewhere."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=datagrams)
        self.server = await asyncio.start_server(self._stream, sock=listening)
        return self

    def close(self):
        self.transport.close()
        self.server.close()

    def datagram_received(self, data, client):
        self.seen.append(("udp", _name(data, 12)[0]))
        if (made := self.answers(data, "udp")) is not None:
            self.transport.sendto(made, client)

    async def _stream(self, reader, writer):
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        self.seen.append(("tcp", _name(data, 12)[0]))
        if (made := self.answers(data, "tcp")) is not None:
            writer.write(len(made).to_bytes(2, "big") + made)
            await writer.drain()
        writer.close()


class _Once(asyncio.DatagramProtocol):
    def __init__(self):
        self.data = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, _):
        if not self.data.done():
            self.data.set_result(data)


async def over_udp(address, data):
    loop = asyncio.get_running_loop()
    transport, once = await loop.create_datagram_endpoint(_Once, remote_addr=address)
    try:
        transport.sendto(data)
        async with asyncio.timeout(60):
            return read(await once.data)
    finally:
        transport.close()


async def over_tcp(address, *messages):
    reader, writer = await asyncio.open_connection(*address)
    found = []
    try:
        for data in messages:
            writer.write(len(data).to_bytes(2, "big") + data)
            async with asyncio.timeout(60):
                found.append(read(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))))
        return found
    finally:
        writer.close()
