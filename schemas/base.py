"""Types shared by every topic family: names of systems, bounded scalars, the (de)coders.

Decoding validates; encoding does not. Length limits are checked by `hal9.wire` before anything is decoded.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from hal9.errors import Poison

System = Literal["flat", "hierarchical"]
FLAT: System = "flat"
HIERARCHICAL: System = "hierarchical"
SYSTEMS: tuple[System, System] = (FLAT, HIERARCHICAL)

Count = Annotated[int, msgspec.Meta(ge=0)]
TimestampMs = Annotated[int, msgspec.Meta(ge=0, description="integer milliseconds since the epoch, UTC")]
Offset = Annotated[int, msgspec.Meta(ge=-1, description="offset in a log; -1 where there is none")]
Percentage = Annotated[float, msgspec.Meta(ge=0, le=100, description="steps of 0.01")]
Tree = dict[str, Any]

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def other(system: System) -> System:
    """The system that `system` is migrated from or to."""
    return HIERARCHICAL if system == FLAT else FLAT


def encode(value: object) -> bytes:
    """Encode a Struct or an opaque tree as msgpack."""
    return _encoder.encode(value)


def decode(decoder: "msgspec.msgpack.Decoder[T]", value: bytes | None) -> T:
    """Decode `value` to the decoder's type; anything else raises `Poison('bad-value')`."""
    if value is None:
        raise Poison("bad-value", "the value is null")
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise Poison("bad-value", str(error)) from error
