"""Records as no client writes them, but as a broker takes them: a header name that is not UTF-8, a bomb."""

import struct

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from aiokafka.record.util import calc_crc32c

_CRC_AT, _CRC_FROM = 17, 21
_BATCH_BYTES = 1 << 16
_ACK_ALL, _TIMEOUT_MS = -1, 5_000


async def append_unreadable(producer: AIOKafkaProducer, topic: str, partition: int) -> None:
    """Append three records in one batch: `k0` and `k2` are sound, `k1` is not."""
    builder = Builder(2, 0, 0, -1, -1, -1, _BATCH_BYTES)
    for number in range(3):
        builder.append(number, 1, b"k%d" % number, b"v%d" % number, [("XX" if number == 1 else "ok", b"")])
    raw = bytearray(builder.build())
    at = raw.index(b"XX")
    raw[at : at + 2] = b"\xff\xfe"
    raw[_CRC_AT:_CRC_FROM] = struct.pack(">I", calc_crc32c(bytes(raw[_CRC_FROM:])))
    await _append(producer, topic, partition, bytes(raw))


async def append_bomb(producer: AIOKafkaProducer, topic: str, partition: int, size: int) -> None:
    """Append one record of `size` bytes, in a batch of some kilobytes."""
    builder = Builder(2, Builder.CODEC_ZSTD, 0, -1, -1, -1, size + _BATCH_BYTES)
    builder.append(0, 1, b"bomb", bytes(size), [])
    await _append(producer, topic, partition, bytes(builder.build()))


async def _append(producer: AIOKafkaProducer, topic: str, partition: int, batch: bytes) -> None:
    await producer.partitions_for(topic)
    leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
    request = ProduceRequest(
        required_acks=_ACK_ALL, timeout=_TIMEOUT_MS, topics=[(topic, [(partition, batch)])], transactional_id=None
    )
    response = await producer.client.send(leader, request)
    code = response.topics[0][1][0][1]
    if code:
        raise ValueError(f"the broker refused it: error {code}")
