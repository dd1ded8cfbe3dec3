"""One Kafka broker in KRaft mode: its settings, its command lines. On loopback only, without security."""

import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from stack.errors import StartFailed
from stack.process import Supervised

_NODE = 1
_FORMAT_DEADLINE_S = 60.0  # 1 s is usual
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": _NODE,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    # Topics are declared and checked; a misspelt name must fail, not appear.
    "auto.create.topics.enable": "false",
    # Groups form at once instead of waiting 3 s for more members.
    "group.initial.rebalance.delay.ms": 0,
    # The default refuses sessions below 6 s; who tests what happens when one ends need not wait so long.
    "group.min.session.timeout.ms": 1500,
    # One node: whatever is replicated has one replica.
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 5,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # After kill -9 the controller waits this long for the old incarnation before it lets the new one in.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # Sized for one machine: the default buffer of the cleaner is a quarter of the heap below.
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "num.network.threads": 2,
    "num.io.threads": 4,
}
_JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class KafkaServer:
    """The files and command lines of one broker.

    Args:
        home: directory of its settings and data.
        java: program.
        jars: its class path, all of it.
    """

    def __init__(self, home: Path, java: str, jars: list[Path]) -> None:
        self._home = home
        self._properties = home / "server.properties"
        self._java = (java, *_JVM, "-cp", os.pathsep.join(map(str, jars)))

    @property
    def command(self) -> tuple[str, ...]:
        """Runs the broker in the foreground."""
        return (*self._java, "kafka.Kafka", str(self._properties))

    def configure(self, port: int, controller_port: int) -> None:
        """Writes the settings, with these ports of 127.0.0.1."""
        settings = {
            **_SETTINGS,
            "log.dirs": self._home / "data",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"{_NODE}@127.0.0.1:{controller_port}",
        }
        self._home.mkdir(parents=True, exist_ok=True)
        lines = (f"{name}={value}\n" for name, value in settings.items())
        self._properties.write_text("".join(lines), encoding="utf-8")

    def format(self) -> None:
        """Makes the data directory a new cluster's, unless it is one already.

        Raises:
            StartFailed: with what the tool said.
        """
        done = self._home / "formatted"
        if done.exists():
            return
        shutil.rmtree(self._home / "data", ignore_errors=True)  # half made: its maker was killed
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = (
            "kafka.tools.StorageTool",
            "format",
            "--config",
            str(self._properties),
            f"--cluster-id={cluster}",  # one argument: one in 64 ids begins with a dash
        )
        command = (*self._java, "-XX:TieredStopAtLevel=1", *tool)
        maker = Supervised("kafka format", command, log=self._home / "format.log")
        maker.start()
        if maker.wait(_FORMAT_DEADLINE_S) != 0:
            maker.kill()
            raise StartFailed(f"Kafka could not format {self._home / 'data'}\n{maker.tail()}")
        done.touch()
