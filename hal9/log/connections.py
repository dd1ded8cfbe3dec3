"""How many connections a client of aiokafka has open."""

from typing import Any


def open_connections(client: Any) -> int:
    """Of an `AIOKafkaClient`; 0 for None."""
    if client is None:
        return 0
    return sum(connection.connected() for connection in client._conns.values())  # noqa: SLF001  it has no question for it
