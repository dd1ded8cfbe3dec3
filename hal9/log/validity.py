"""Which records of a claimed log count. The one class that knows; pure.

A record's validity depends only on what precedes it in its log: the newest claim, the first seal of each epoch (change
logs), the last marker (`dispatched`). So every reader comes to the same result, whatever it reads later.
DESIGN sections 2 and 7; `model/model.py` class Val is its executable reference.
"""

import zlib
from base64 import b85decode, b85encode
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from hal9 import wire
from hal9.control.route import Route, Spans
from hal9.errors import Poison
from hal9.keys import BUCKETS, bucket_of
from hal9.log.effects import Record
from schemas.base import System, decode, encode
from schemas.state import Marker, Requests, Seal, marker_decoder, requests_decoder, seal_decoder
from schemas.state import Spans as WireSpans

_MAX_SAVED_BYTES = 1 << 20

Kind = Literal["data", "claim", "marker", "requests", "seal", "floor", "void"]


class Validity:
    """Judges the records of one partition of one claimed log, fed in offset order.

    `claim` is the offset of the newest claim (-1: none). `marker` is the last valid marker (`dispatched`), `requests`
    says of which topic the requests from there on are (there too), `seals` are the epochs sealed so far. `lost` is the
    newest sealed epoch, per bucket, in which `system` did not own it (change logs only), `newest_lost` the newest one.
    `floor` is the greatest version that a deletion which was forgotten may have had (state logs).
    """

    def __init__(self, *, system: System | None = None, salt: str = "") -> None:
        self._system, self._salt = system, salt
        self.claim = -1
        self.marker: Marker | None = None
        self.requests: Requests | None = None
        self.epoch = 0
        self.seals: dict[int, int] = {}
        self.seal: Seal | None = None
        self.lost = Spans()
        self.newest_lost = 0
        self.floor = 0
        self._saved: list[tuple[int, _Known | str]] = [(0, "")]

    def __repr__(self) -> str:
        return f"Validity(claim={self.claim}, epoch={self.epoch}, seals={sorted(self.seals)})"

    def sealed(self, epoch: int, key: bytes, layer: str | None = None) -> bool:
        """Whether the seals read so far void a change of `key`, of `layer`, in `epoch`, that comes after them."""
        if epoch >= self.newest_lost:
            return False
        return epoch < self.lost.at(bucket_of(self._salt, key), key.decode("utf-8", "replace"), layer)

    def feed(self, record: Record) -> Kind:
        """Judge the next record of the log. A mark that cannot be read is void."""
        key = record.key
        if key is not None and key[:1] == b"\0":
            try:
                kind = self._mark(record, key)
            except (Poison, ValueError):
                return "void"
            if kind != "void":
                self._saved.append((record.offset + 1, self._known()))
            return kind
        term = wire.number(record.headers, wire.TERM)
        if term is None or term < self.claim:
            return "void"
        if self._system is not None:
            epoch = wire.number(record.headers, wire.EPOCH)
            if epoch is None or self.sealed(epoch, key or b"", self._layer(record)):
                return "void"
        return "data"

    def _layer(self, record: Record) -> str | None:
        """The layer by which a change is judged; what says that a key is of a layer was made before it was known."""
        if not self.lost.layers or wire.text(record.headers, wire.ORIGIN) == wire.MOVE:
            return None
        return wire.text(record.headers, wire.LAYER)

    def _mark(self, record: Record, key: bytes) -> Kind:
        if key.startswith(wire.CLAIM):
            self.claim = record.offset
            return "claim"
        if key.startswith(wire.SEAL):
            return self._sealing(record)
        if key.startswith(wire.MARKER):
            return self._marking(record)
        if key.startswith(wire.FLOOR):
            # Whoever wrote it: one that is too high costs numbers, nothing else.
            self.floor = max(self.floor, wire.number(record.headers, wire.VERSION) or 0)
            return "floor"
        if key.startswith(wire.REQUESTS):
            return self._counting(record)
        return "void"

    def _sealing(self, record: Record) -> Kind:
        seal = decode(seal_decoder, record.value)
        epoch = seal.route.epoch
        term = wire.number(record.headers, wire.TERM)
        if epoch in self.seals:
            return "void"
        if self._system is None:
            # A replica log: its seals are its one writer's records, judged by term like the rest.
            if term is None or term < self.claim:
                return "void"
        else:
            # A change log: the first seal of an epoch counts, whoever wrote it.
            self.lost = self.lost.lost(Route.of(seal.route), self._system, epoch, self._salt)
            self.newest_lost = self.lost.newest()
        self.seals[epoch] = record.offset
        self.seal = seal
        return "seal"

    def _marking(self, record: Record) -> Kind:
        term = wire.number(record.headers, wire.TERM)
        if term is None or term < self.claim:
            return "void"
        marker = decode(marker_decoder, record.value)
        Spans.of(marker.moved)
        if marker.route.epoch <= self.epoch:
            return "void"
        self.marker, self.epoch = marker, marker.route.epoch
        return "marker"

    def _counting(self, record: Record) -> Kind:
        term = wire.number(record.headers, wire.TERM)
        if term is None or term < self.claim:
            return "void"
        self.requests = decode(requests_decoder, record.value)
        return "requests"

    def saved(self, position: int) -> str:
        """What a reader that starts at `position` must know, as text for `restore` (rides in commit metadata).

        Positions may only grow from call to call: what lies before is forgotten.
        """
        while len(self._saved) > 1 and self._saved[1][0] <= position:
            del self._saved[0]
        at, known = self._saved[0]
        if not isinstance(known, str):
            known = known.text()
            self._saved[0] = (at, known)
        return known

    def _known(self) -> "_Known":
        seals = sorted(self.seals) if self._system is not None else []
        return _Known(self.claim, self.marker, seals, self.lost, self.requests)

    def restore(self, saved: str) -> None:
        """Continue where `saved` was taken; Poison if it is not such a text. Empty: from the start of the log."""
        if not saved:
            return
        try:
            data = zlib.decompressobj().decompress(b85decode(saved), _MAX_SAVED_BYTES)
        except (ValueError, zlib.error) as error:
            raise Poison("bad-metadata", str(error)) from error
        state = decode(_saved_decoder, data)
        try:
            lost = Spans.of(state.lost)
            if state.marker is not None:
                Spans.of(state.marker.moved)
        except ValueError as error:
            raise Poison("bad-metadata", str(error)) from error
        self.claim, self.marker, self.requests = state.claim, state.marker, state.requests
        self.epoch = state.marker.route.epoch if state.marker else 0
        self.seals = dict.fromkeys(state.seals, -1)
        self.lost = lost
        self.newest_lost = self.lost.newest()
        self._saved = [(0, saved)]


class _Known(NamedTuple):
    """What was known behind a mark. Most of it is never asked for, and to pack it costs more than to read a record."""

    claim: int
    marker: Marker | None
    seals: list[int]
    lost: Spans
    requests: Requests | None

    def text(self) -> str:
        """As it rides in commit metadata."""
        saved = _Saved(
            claim=self.claim, marker=self.marker, seals=self.seals, lost=self.lost.wire(), requests=self.requests
        )
        return b85encode(zlib.compress(encode(saved), 9)).decode()


class _Saved(Struct, frozen=True, omit_defaults=True):
    claim: int = -1
    marker: Marker | None = None
    seals: list[int] = []
    lost: WireSpans = WireSpans(bounds=[BUCKETS], epochs=[0])
    requests: Requests | None = None


_saved_decoder = msgspec.msgpack.Decoder(_Saved)
