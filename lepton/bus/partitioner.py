"""Which partition a key belongs to: Kafka's murmur2, so that every client agrees on an entity's place."""

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


def partition_for(key: bytes, partitions: int) -> int:
    """The partition Kafka's default partitioner gives `key` in a topic of `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 as the Java client computes it, as an unsigned 32-bit number."""
    length = len(data)
    value = (_SEED ^ length) & _WORD
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start:start + 4], "little") * _MIX & _WORD
        word = (word ^ (word >> 24)) * _MIX & _WORD
        value = (value * _MIX & _WORD) ^ word
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MIX & _WORD
    value = (value ^ (value >> 13)) * _MIX & _WORD
    return value ^ (value >> 15)
