"""Asks a server over a bare socket whether it is ready: no client library, no event loop."""

import socket
import struct

_SOCKET_TIMEOUT_S = 2.0
_MAX_REPLY_BYTES = 1 << 20
# Metadata v1 for no topics: the first request whose reply says that the broker has registered.
_METADATA_KEY, _METADATA_VERSION = 3, 1


def kafka_is_ready(host: str, port: int) -> bool:
    """Whether a broker answers at this address and counts itself a live member of its cluster."""
    client = b"probe"
    body = struct.pack(">hhih", _METADATA_KEY, _METADATA_VERSION, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, port), _SOCKET_TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _read(connection, 4))
            if not 8 <= size <= _MAX_REPLY_BYTES:  # noqa: PLR2004 - two 32-bit numbers are read below
                return False
            _correlation, brokers = struct.unpack(">ii", _read(connection, size)[:8])
            return bool(brokers >= 1)
    except OSError:
        return False


def redis_is_ready(host: str, port: int) -> bool:
    """Whether a Redis or Valkey answers at this address and has loaded its data."""
    try:
        with socket.create_connection((host, port), _SOCKET_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return _read(connection, 7) == b"+PONG\r\n"
    except OSError:
        return False


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError("closed while reading")
        data += chunk
    return data
