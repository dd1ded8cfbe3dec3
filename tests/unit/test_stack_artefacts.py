"""What is fetched is what the lock names, or nothing is."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from hal9.errors import Unreachable
from stack.artefacts import Artefact, Lock, ensure
from stack.errors import Corrupt, FetchFailed
from stack.ports import free_ports

BODIES = {"org/one/one-1.jar": b"first" * 1000, "org/two/two-2.jar": b"second" * 2000}
LOCK = Lock(
    "0.0.0",
    tuple(Artefact(path, len(body), hashlib.sha256(body).hexdigest()) for path, body in BODIES.items()),
)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for path, body in BODIES.items():
        file = tmp_path / "mirror" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(body)
    return tmp_path / "mirror"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(cache: Path) -> list[str]:
    return sorted(file.name for file in cache.iterdir() if file.name != ".lock")


def ignore(line: str) -> None:
    del line


def test_everything_is_fetched_once_and_progress_ends_at_all_of_it(mirror: Path, cache: Path) -> None:
    lines: list[str] = []
    files = ensure(LOCK, cache, mirror.as_uri(), lines.append)
    assert [file.read_bytes() for file in files] == list(BODIES.values())
    assert "2/2 files" in lines[-1]
    lines.clear()
    assert ensure(LOCK, cache, "file:///nowhere", lines.append) == files
    assert lines == []


def test_a_file_other_than_the_lock_names_is_refused_and_leaves_nothing(mirror: Path, cache: Path) -> None:
    body = bytearray(BODIES["org/two/two-2.jar"])
    body[17] ^= 1
    (mirror / "org/two/two-2.jar").write_bytes(body)
    with pytest.raises(Corrupt, match=r"two-2\.jar has SHA-256 .*, the lock names"):
        ensure(LOCK, cache, mirror.as_uri(), ignore)
    assert names(cache) in ([], ["one-1.jar"])


def test_a_file_longer_than_the_lock_names_is_refused(mirror: Path, cache: Path) -> None:
    with (mirror / "org/one/one-1.jar").open("ab") as file:
        file.write(b"!")
    with pytest.raises(Corrupt):
        ensure(LOCK, cache, mirror.as_uri(), ignore)
    assert "one-1.jar" not in names(cache)


def test_a_cached_file_that_was_damaged_is_fetched_again(mirror: Path, cache: Path) -> None:
    file = ensure(LOCK, cache, mirror.as_uri(), ignore)[0]
    file.write_bytes(b"x" * file.stat().st_size)
    ensure(LOCK, cache, mirror.as_uri(), ignore)
    assert file.read_bytes() == BODIES["org/one/one-1.jar"]


def test_what_an_interrupted_download_left_is_not_used(mirror: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "one-1.jar.part").write_bytes(BODIES["org/one/one-1.jar"][:100])
    ensure(LOCK, cache, mirror.as_uri(), ignore)
    assert names(cache) == ["one-1.jar", "two-2.jar"]


def test_without_network_the_error_names_the_address_and_the_way_out(cache: Path) -> None:
    base = f"http://someone:secret@127.0.0.1:{free_ports(1)[0]}/maven2"
    with pytest.raises(FetchFailed, match=r"cannot fetch http://\*\*\*@127\.0\.0\.1.*HAL9_STACK__MAVEN_BASE") as caught:
        ensure(LOCK, cache, base, ignore)
    assert isinstance(caught.value, Unreachable)
    assert "secret" not in str(caught.value)
    assert names(cache) == []


class Flaky(http.server.BaseHTTPRequestHandler):
    """Cuts the first answer for each path in the middle; a path that ends in `no` is not there."""

    cut: set[str]
    asked: list[str]

    def do_GET(self) -> None:
        body = BODIES.get(self.path.lstrip("/"))
        self.asked.append(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:10] if self.path not in self.cut else body)
        self.cut.add(self.path)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Flaky,), {"cut": set(), "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_connection_that_ends_early_is_tried_again(flaky: tuple[str, list[str]], cache: Path) -> None:
    base, asked = flaky
    files = ensure(LOCK, cache, base, ignore)
    assert [file.read_bytes() for file in files] == list(BODIES.values())
    assert len(asked) == 2 * len(BODIES)


def test_a_file_that_is_not_there_is_asked_for_once(flaky: tuple[str, list[str]], cache: Path) -> None:
    base, asked = flaky
    with pytest.raises(FetchFailed, match="Not Found"):
        ensure(Lock("0", (Artefact("org/three.jar", 1, "00"),)), cache, base, ignore)
    assert asked == ["/org/three.jar"]


def test_the_packaged_lock_names_each_file_once_with_a_full_checksum() -> None:
    lock = Lock.packaged()
    assert {f"kafka_2.13-{lock.kafka}.jar", f"kafka-clients-{lock.kafka}.jar"} <= {a.name for a in lock.artefacts}
    assert len({artefact.name for artefact in lock.artefacts}) == len(lock.artefacts)
    for artefact in lock.artefacts:
        assert len(bytes.fromhex(artefact.sha256)) == 32
        assert artefact.size > 0
        path = PurePosixPath(artefact.path)
        assert not path.is_absolute()
        assert ".." not in path.parts
