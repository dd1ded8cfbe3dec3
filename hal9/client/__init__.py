"""The Python client: requests in, answers out, by way of Kafka.

async with Client("127.0.0.1:9092") as client:
    answer = await client.request("neuron-1", b"...", operation="activate")
"""

from hal9.client.answer import Answer, Ask, Counts
from hal9.client.client import Client

__all__ = ["Answer", "Ask", "Client", "Counts"]
