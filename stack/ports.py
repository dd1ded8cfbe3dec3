"""Free ports of the loopback interface."""

import random
import socket

# Below the range from which systems take the ports of outgoing connections (from 32768 on Linux), so that no
# client connection takes a port between its choice and its use.
_FIRST, _LAST = 20_000, 31_999
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no hindrance
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Different free ports, chosen at random so that stacks started together rarely meet.

    Raises:
        OSError: almost every port is taken.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST, _LAST + 1), _TRIES):
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} free ports between {_FIRST} and {_LAST}")
