"""Faust: one agent, raw bytes, sends gathered by the hundred."""

import asyncio
import os
import sys
import uuid

import faust

from bench.peers.meter import Meter, Task, decide

TASK, SCRATCH = Task.given(), sys.argv[5]
sys.argv[1:] = ["worker", "-l", "error", "--without-web"]
app = faust.App(
    uuid.uuid4().hex,
    broker=f"kafka://{TASK.bootstrap}",
    datadir=SCRATCH,
    web_enabled=False,
    topic_disable_leader=True,
    topic_allow_declare=False,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    broker_max_poll_records=500,
)
source = app.topic(TASK.source, key_serializer="raw", value_serializer="raw")
target = app.topic(TASK.target, key_serializer="raw", value_serializer="raw")


meter = Meter()


@app.on_partitions_assigned.connect
async def begin(_app: object, assigned: object, **_: object) -> None:
    """Fetching begins."""
    if assigned:
        meter.begin()


@app.agent(source)
async def move(stream: faust.Stream[bytes]) -> None:
    """Each record, until `count` are through."""
    moved, under_way = 0, []
    async for event in stream.events():
        decide(event.headers)
        under_way.append(await target.send(key=event.key, value=event.value, headers=event.headers))
        moved += 1
        if len(under_way) >= 100:
            await asyncio.gather(*under_way)
            under_way.clear()
        if moved == TASK.count:
            await asyncio.gather(*under_way)
            meter.tell(moved)
            os._exit(0)


app.main()
