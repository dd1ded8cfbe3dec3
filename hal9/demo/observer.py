"""Fills the board: follows outcomes and heartbeats, and is told of control."""

from aiokafka import TopicPartition

from hal9.demo.board import Board
from hal9.errors import Poison
from hal9.log.clock import Clock
from hal9.log.effects import EARLIEST
from hal9.log.reading import Reader
from hal9.settings import Settings
from schemas.base import decode
from schemas.telemetry import outcome_decoder, status_decoder


async def observe(settings: Settings, board: Board, clock: Clock) -> None:
    """Never returns; raises when the logs can no longer be read."""
    names = settings.topics.names()
    outcomes, status = (TopicPartition(names[log], 0) for log in ("outcomes", "status"))
    async with Reader(settings.kafka) as reader:
        async for chunk in reader.follow({outcomes: EARLIEST, status: EARLIEST}):
            for record in chunk.records:
                if record.value is not None:
                    _fold(board, chunk.at == outcomes, record.value, clock.now_ms())


def _fold(board: Board, is_outcome: bool, value: bytes, now_ms: int) -> None:
    try:
        if is_outcome:
            board.outcome(decode(outcome_decoder, value), now_ms)
        else:
            board.status(decode(status_decoder, value))
    except Poison as error:
        board.say(f"telemetry that cannot be read: {error.detail}", now_ms)
