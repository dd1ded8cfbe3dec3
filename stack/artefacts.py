"""Fetches exactly the files that a lock lists, and hands out only files whose SHA-256 was checked just now.

A file under its final name has been complete and right once: a download goes to `.part`, is verified, then
renamed. Runs that share a cache directory take turns.
"""

import hashlib
import http
import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hal9.settings.loading import masked_url
from stack.errors import Corrupt, FetchFailed
from stack.turns import turn

Progress = Callable[[str], None]

_CONNECTIONS = 8
_ATTEMPTS = 3  # a dropped connection among 45 files is common, three in a row are an outage
_SOCKET_TIMEOUT_S = 10  # also how long Ctrl-C may take while a server is silent
_CHUNK_BYTES = 1 << 18
_PROGRESS_BYTES = 4_000_000


@dataclass(frozen=True)
class Artefact:
    """One file of a Maven repository.

    Attributes:
        path: below the base address.
        size: in bytes.
        sha256: hexadecimal.
    """

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the path, unique within a lock."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Lock:
    """The files that one version of Kafka runs from."""

    kafka: str
    artefacts: tuple[Artefact, ...]

    @classmethod
    def packaged(cls) -> "Lock":
        """The lock that this package ships."""
        raw = json.loads(resources.files("stack").joinpath("kafka.lock.json").read_text("utf-8"))
        return cls(raw["kafka"], tuple(Artefact(**entry) for entry in raw["artefacts"]))


def ensure(lock: Lock, cache: Path, base_url: str, progress: Progress) -> list[Path]:
    """Returns the verified files of the lock below `cache`, fetching what is missing or damaged.

    Raises:
        FetchFailed: the address did not answer.
        Corrupt: it served other bytes than the lock names.
    """
    with turn(cache, progress):
        missing = [artefact for artefact in lock.artefacts if not _is_right(cache / artefact.name, artefact)]
        if missing:
            _fetch_all(missing, cache, base_url.rstrip("/"), lock.kafka, progress)
    return [cache / artefact.name for artefact in lock.artefacts]


def _is_right(path: Path, artefact: Artefact) -> bool:
    if not path.is_file() or path.stat().st_size != artefact.size:
        return False
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == artefact.sha256


def _fetch_all(missing: list[Artefact], cache: Path, base_url: str, version: str, progress: Progress) -> None:
    total = sum(artefact.size for artefact in missing)
    done = told = 0
    progress(f"fetching Kafka {version}: {len(missing)} files, {total / 1e6:.0f} MB, from {masked_url(base_url)}")
    stopped = threading.Event()
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="fetch") as pool:
        jobs = {pool.submit(_fetch, artefact, cache, base_url, stopped): artefact for artefact in missing}
        try:
            for count, job in enumerate(as_completed(jobs), start=1):
                job.result()
                done += jobs[job].size
                if done - told >= _PROGRESS_BYTES or count == len(missing):
                    told = done
                    part = f"{done / 1e6:.0f}/{total / 1e6:.0f} MB"
                    progress(f"Kafka {version}: {count}/{len(missing)} files, {part}")
        except BaseException:
            # Also on Ctrl-C: the others give up at their next chunk, so that leaving the pool does not wait.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(artefact: Artefact, cache: Path, base_url: str, stopped: threading.Event) -> None:
    url = f"{base_url}/{artefact.path}"
    part = cache / f"{artefact.name}.part"
    try:
        found = _download_patiently(url, artefact.size, part, stopped)
        if found != artefact.sha256:
            raise Corrupt(f"{masked_url(url)} has SHA-256 {found}, the lock names {artefact.sha256}")
        part.replace(cache / artefact.name)
    finally:
        part.unlink(missing_ok=True)


def _download_patiently(url: str, size: int, part: Path, stopped: threading.Event) -> str:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _download(url, size, part, stopped)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is the answer, too
            if attempt == _ATTEMPTS or stopped.is_set() or _is_refusal(error):
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                raise FetchFailed(
                    f"cannot fetch {masked_url(url)}: {reason}. The first start needs the network once; "
                    "HAL9_STACK__MAVEN_BASE names another mirror, HAL9_KAFKA__BOOTSTRAP a Kafka of your own"
                ) from error
    raise AssertionError("the last attempt returned or raised")


def _is_refusal(error: Exception) -> bool:
    """Whether the server said no, and would say it again."""
    return isinstance(error, urllib.error.HTTPError) and error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR


def _download(url: str, size: int, part: Path, stopped: threading.Event) -> str:
    """Writes the body to `part` and returns its SHA-256; raises OSError on any failure to get all of it."""
    digest = hashlib.sha256()
    written = 0
    # The base address is the operator's setting, so its scheme is the operator's choice.
    with urllib.request.urlopen(url, timeout=_SOCKET_TIMEOUT_S) as body, part.open("wb") as out:  # noqa: S310
        # At most one chunk more than it should be: that is enough to see that it is another file.
        while written <= size and (chunk := body.read(_CHUNK_BYTES)):
            if stopped.is_set():
                raise InterruptedError("another file failed")
            digest.update(chunk)
            written += out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if written < size:
        raise ConnectionResetError(f"the connection ended after {written} of {size} bytes")
    return digest.hexdigest()
