"""A handler behind HTTP: one POST per batch over connections that are kept, each under a deadline.

Whatever it does, the service goes on: what cannot be reached (no connection, a gateway's 502, 503, 504, 429) is asked
again by the core until the request's deadline; what answers wrongly (another status, another type, too much, not one
result per item) is asked item by item, and an item that fails alone is answered `handler-failed`.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp

from hal9.backend.bodies import FAILED, TYPES, Body, Form, Unreadable, bodies_of, form_of, read, results_of
from hal9.backend.handler import Missing, Outcome, Refused
from hal9.errors import ConfigError, Hal9Error, Stalled, Unreachable
from hal9.log.effects import Call
from hal9.settings.loading import masked_url
from hal9.settings.sections import System
from hal9.telemetry.logs import logger
from schemas.handler import Description

ACCEPT = "application/msgpack, application/json;q=0.5"
CONNECT_S = 2.0
KEEP_S = 4.0
"""Idle connections are given up before a server does it: Node's default is 5 s."""
ANSWER_BYTES = 64 * 1024 * 1024
DESCRIPTION_BYTES = 1024 * 1024
LOOK_S = 5.0
"""How often it is asked whether it is still the same."""
_PAUSE_S = 0.2
_AWAY = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_log = logger("backend.remote")


class Unreached(Hal9Error):
    """Nobody answers at the address."""


class Misbehaved(Hal9Error):
    """It answers, and not as a handler does."""


class HttpHandler:
    """The handler at an address. `reach` it before anything else; then `call` carries out the calls of cores.

    Attributes:
        description: what it said of itself.
        unreached: why it cannot be reached at present, None if it can.
    """

    def __init__(self, url: str, settings: System) -> None:
        self._url, self._settings = url, settings
        self._session: aiohttp.ClientSession | None = None
        self.description = Description(read_only=[])
        self.form: Form = "msgpack"
        self.unreached: str | None = None

    def __repr__(self) -> str:
        return f"<HttpHandler {self.shown} {self.form}, {self.unreached or 'reached'}>"

    @property
    def shown(self) -> str:
        """The address, without a password."""
        return masked_url(self._url)

    @property
    def read_only(self) -> frozenset[str]:
        """The operations that it declares read-only."""
        return frozenset(self.description.read_only)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._settings.handler_connections, keepalive_timeout=KEEP_S)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # ------------------------------------------------------------------ what it says of itself
    async def reach(self, stop: asyncio.Event | None = None) -> None:
        """Wait for it (SYSTEM.HANDLER_WAIT_S) and take in what it says of itself.

        Raises:
            Unreachable: it did not answer in time.
            ConfigError: it answers, and not as a handler does.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.handler_wait_s
        while not (stop is not None and stop.is_set()):
            try:
                self.description, self.form = await self.describe()
            except Misbehaved as error:
                raise ConfigError(f"SYSTEM.HANDLER: {error}") from error
            except Unreached as error:
                if loop.time() >= until:
                    raise Unreachable(f"{error}, within {self._settings.handler_wait_s:g} s") from error
                await asyncio.sleep(_PAUSE_S)
            else:
                _log.info("handler_reached", url=self.shown, form=self.form, read_only=sorted(self.read_only))
                return

    async def describe(self) -> tuple[Description, Form]:
        """Ask it now. Raises `Unreached` or `Misbehaved`."""
        try:
            async with asyncio.timeout(self._settings.handler_timeout_s):
                content, form = await self._exchange("GET", None, {"Accept": ACCEPT}, DESCRIPTION_BYTES)
        except TimeoutError as error:
            raise Unreached(f"{self.shown} does not answer a GET") from error
        try:
            found = read(content, form, Description)
        except Unreadable as error:
            raise Misbehaved(f"what {self.shown} answers to a GET is no description: {error}") from error
        wanted = self._settings.handler_format
        return found, form if wanted == "auto" else wanted

    async def watch(self) -> None:
        """Look now and then whether it is still the same. Raises `Stalled` when it is another one."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                found, form = await self.describe()
            except (Unreached, Misbehaved) as error:
                self._away(str(error))
                continue
            self._back()
            if frozenset(found.read_only) != self.read_only or form != self.form:
                raise Stalled(
                    f"the handler at {self.shown} is another one now (read-only: {', '.join(sorted(found.read_only))};"
                    f" {form}): this system must be started again"
                )

    # ------------------------------------------------------------------ what it is asked
    async def call(self, call: Call) -> Sequence[Outcome]:
        """One outcome per item; never raises for what it answers."""
        outcomes: list[Outcome] = [Missing.SLOW] * len(call.items)
        try:
            async with asyncio.timeout(self._settings.handler_timeout_s):
                failed = await self._ask(call, range(len(call.items)), outcomes)
                if len(call.items) > 1:
                    for index in failed:
                        await self._ask(call, [index], outcomes)
        except TimeoutError:
            _log.warning("handler_slow", url=self.shown, items=len(call.items))
        except Unreached as error:
            self._away(str(error))
            return [Missing.UNREACHED if outcome is Missing.SLOW else outcome for outcome in outcomes]
        else:
            self._back()
        return outcomes

    async def _ask(self, call: Call, indices: Sequence[int], outcomes: list[Outcome]) -> list[int]:
        """Ask about these items; returns those whose body failed as a whole, which are answered so for now."""
        failed: list[int] = []
        for body in bodies_of(call.items, call.off, self.form, indices):
            if not isinstance(body, Body):
                outcomes[body[0]] = body[1]
                continue
            try:
                found = await self._post(call, body)
            except (Misbehaved, Unreadable) as error:
                found = [Refused(FAILED, str(error))] * len(body.indices)
                failed += body.indices if len(body.indices) > 1 else []
            for index, outcome in zip(body.indices, found, strict=True):
                outcomes[index] = outcome
        for index in failed:
            outcomes[index] = Missing.SLOW  # until it was asked alone
        return failed

    async def _post(self, call: Call, body: Body) -> list[Outcome]:
        headers = {"Content-Type": TYPES[self.form], "Accept": TYPES[self.form]}
        content, form = await self._exchange("POST", body.content, headers, ANSWER_BYTES)
        return results_of(content, form, [call.items[index] for index in body.indices], self.read_only)

    # ------------------------------------------------------------------ HTTP
    async def _exchange(
        self, method: str, content: bytes | None, headers: dict[str, str], limit: int
    ) -> tuple[bytes, Form]:
        """One request and its answer. A handler has no effects: a connection that breaks is tried once more."""
        try:
            return await self._once(method, content, headers, limit)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError):
            pass
        except aiohttp.ClientError as error:
            raise Misbehaved(f"{self.shown}: {type(error).__name__}: {error}") from error
        try:
            return await self._once(method, content, headers, limit)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
            raise Unreached(f"{self.shown}: {type(error).__name__}: {error}") from error
        except aiohttp.ClientError as error:
            raise Misbehaved(f"{self.shown}: {type(error).__name__}: {error}") from error

    async def _once(
        self, method: str, content: bytes | None, headers: dict[str, str], limit: int
    ) -> tuple[bytes, Form]:
        if self._session is None:
            raise RuntimeError("not entered")
        request = self._session.request(method, self._url, data=content, headers=headers, allow_redirects=False)
        async with request as response:
            if response.status in _AWAY:
                raise Unreached(f"{self.shown} answers {response.status}")
            if response.status != HTTPStatus.OK:
                raise Misbehaved(f"{self.shown} answers {response.status}")
            form = form_of(response.headers.get("Content-Type", ""))
            if form is None:
                raise Misbehaved(f"{self.shown} answers neither {' nor '.join(TYPES.values())}")
            found = bytearray()
            async for chunk in response.content.iter_any():
                found += chunk
                if len(found) > limit:
                    raise Misbehaved(f"{self.shown} answers more than {limit} bytes")
            return bytes(found), form

    def _away(self, reason: str) -> None:
        if self.unreached is None:
            _log.warning("handler_unreached", url=self.shown, reason=reason)
        self.unreached = reason

    def _back(self) -> None:
        if self.unreached is not None:
            _log.info("handler_back", url=self.shown)
        self.unreached = None
