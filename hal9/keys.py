"""Where a key lives: its partition (murmur2, as the Java client) and its buckets (salted SHA-256).

Both are integer arithmetic fixed by the contract; `schemas/golden/keys.json` holds vectors for other languages.
"""

from hashlib import sha256
from typing import NewType

Partition = NewType("Partition", int)
Bucket = NewType("Bucket", int)

BUCKETS = 10_000
MAX_KEY_BYTES = 256


def murmur2(data: bytes) -> int:
    """Austin Appleby's MurmurHash2 with the seed of the Java client; an unsigned 32-bit integer."""
    length = len(data)
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ length) & mask
    tail = length & ~3
    for i in range(0, tail, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    rest = length & 3
    if rest:
        h = ((h ^ int.from_bytes(data[tail:], "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> Partition:
    """The partition of `key` by the default partitioner of the Java client."""
    return Partition((murmur2(key) & 0x7FFFFFFF) % partitions)


def bucket_of(salt: str, key: bytes) -> Bucket:
    """The bucket of `key`, 0 to 9999, for one purpose (route, shadow, control)."""
    return Bucket(int.from_bytes(sha256(salt.encode() + b"\0" + key).digest()[:8], "big") % BUCKETS)


def is_mark(key: bytes | None) -> bool:
    """Whether a record with this key is a control mark (claim, marker, seal), not data."""
    return key is not None and key[:1] == b"\0"


def key_error(key: bytes | None) -> str | None:
    """Why `key` is no neuron id, or None if it is one."""
    if not key:
        return "the key is missing or empty"
    if len(key) > MAX_KEY_BYTES:
        return f"the key has {len(key)} bytes, more than {MAX_KEY_BYTES}"
    if key[:1] == b"\0":
        return "the key begins with NUL"
    try:
        key.decode()
    except UnicodeDecodeError:
        return "the key is not UTF-8"
    return None
