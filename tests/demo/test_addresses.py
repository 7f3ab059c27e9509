"""Reserved addresses and ports."""

import socket
import sys

import pytest

from pypilot.cli.demo.addresses import free_port, reserve
from pypilot.cli.demo.stage import replaced, replacements_for


def test_a_taken_port_becomes_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        wished = other.getsockname()
        got = reserve(*wished)
        assert got.address[0] == "127.0.0.1"
        assert got.address[1] != wished[1]
        got.close()


def test_a_free_port_is_taken_as_wished() -> None:
    port = free_port()
    got = reserve("127.0.0.1", port)
    assert got.address == ("127.0.0.1", port)
    with pytest.raises(OSError, match="in use"), socket.create_server(("127.0.0.1", port)):
        pass
    got.close()


def test_an_address_that_this_machine_lacks_becomes_loopback() -> None:
    got = reserve("203.0.113.1", free_port())
    assert got.address[0] == "127.0.0.1"
    assert replacements_for([got])["203.0.113.1"] == "127.0.0.1"
    got.close()


@pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT is shared this way on Linux only")
def test_a_place_left_to_others_is_open_for_an_envoy_and_shut_for_the_rest() -> None:
    got = reserve("127.0.0.1", free_port())
    got.leave_to_others()
    again = reserve(*got.address)
    assert again.address != got.address
    with socket.socket() as envoy:
        envoy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        envoy.bind(got.address)
        envoy.listen()
        for _ in range(20):  # never to the socket that only holds the place
            with socket.create_connection(got.address, 1):
                envoy.accept()[0].close()
    again.close()
    got.close()


@pytest.mark.skipif(sys.platform != "linux", reason="TIME_WAIT is handled on Linux only")
def test_what_an_envoy_left_in_time_wait_does_not_stand_in_the_way() -> None:
    with socket.socket() as envoy:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            envoy.setsockopt(socket.SOL_SOCKET, option, 1)
        envoy.bind(("127.0.0.1", 0))
        envoy.listen()
        place = envoy.getsockname()
        client = socket.create_connection(place)
        envoy.accept()[0].close()
        assert client.recv(1) == b""
        client.close()
        assert reserve(*place).address != place, "it still listens"
    with pytest.raises(OSError, match="in use"), socket.socket() as plain:
        plain.bind(place)
    got = reserve(*place)
    assert got.address == place
    got.leave_to_others()
    assert reserve(*place).address != place, "it is held again"
    got.close()


def test_replacements_are_only_what_differs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        same, moved = reserve("127.0.0.1", free_port()), reserve("127.0.0.1", port)
        changed = replacements_for([same, moved])
        assert changed == {str(port): str(moved.address[1])}
        assert replaced(("127.0.0.1", port), changed) == moved.address
        assert replaced(same.wished, changed) == same.wished
        same.close()
        moved.close()
