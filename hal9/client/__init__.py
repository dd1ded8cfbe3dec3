"""The Python client: requests in, answers out, by way of Kafka.

async with Client("127.0.0.1:9092") as client:
    answer = await client.request("neuron-1", b"...", operation="activate")

`SyncClient` is the same in plain calls, `shared_client` one client for all who ask in one event loop.
"""

from hal9.client.answer import Answer, AnswerStatus, Ask, Counts
from hal9.client.client import Client
from hal9.client.errors import (
    ClientClosed,
    RequestFailed,
    RequestRefused,
    RequestRejected,
    RequestTimedOut,
)
from hal9.client.many import Answers
from hal9.client.shared import shared_client
from hal9.client.sync import SyncClient

__all__ = [
    "Answer",
    "AnswerStatus",
    "Answers",
    "Ask",
    "Client",
    "ClientClosed",
    "Counts",
    "RequestFailed",
    "RequestRefused",
    "RequestRejected",
    "RequestTimedOut",
    "SyncClient",
    "shared_client",
]
