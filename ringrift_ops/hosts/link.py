"""The one way to a host: one SSH connection per process and host, one check of its key, one program at its end.

All threads of a process share the connection; an event loop in a thread of its own keeps it. A broken connection is
made anew by the next question, at most every ``HOSTS.again_seconds``; everything that is asked may be asked twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shlex
import socket
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ringrift_ops.hosts.errors import (
    AuthenticationError,
    HostDroppedError,
    HostError,
    HostHangsError,
    HostRefusedError,
    NotBootstrappedError,
    PythonMissingError,
    UnreachableHostError,
    WrongHostKeyError,
)
from ringrift_ops.hosts.keys import HostKey
from ringrift_ops.hosts.serve import GREETING
from ringrift_ops.settings.tables import HOSTS

if TYPE_CHECKING:
    import asyncssh

    from ringrift_ops.settings import Host

T = TypeVar("T")

_STDERR_TAIL = 2_000
_NOT_FOUND = (126, 127)
"""What a shell answers for a command that does not exist or cannot be run."""


class Loop:
    """An event loop in a thread of this process. A forked child starts its own."""

    _current: Loop | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="hosts", daemon=True)
        self.thread.start()

    @classmethod
    def get(cls) -> Loop:
        """Return the loop of this process."""
        with cls._lock:
            if cls._current is None or cls._current.pid != os.getpid():
                cls._current = cls()
            return cls._current

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop; the answer comes as a future."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)


class Session:
    """A connection with the host's program running at its end."""

    def __init__(self, host: Host, connection: asyncssh.SSHClientConnection) -> None:
        self.host = host
        self.connection = connection
        self.greeting: dict[str, Any] = {}
        self.broken: HostError | None = None
        self._process: asyncssh.SSHClientProcess[str] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._stderr = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._sftp: asyncio.Future[asyncssh.SFTPClient] | None = None

    async def begin(self) -> None:
        """Start the host's program and hear its greeting."""
        words = [self.host.interpreter, "-m", "ringrift_ops.hosts.serve", self.host.work_dir]
        self._process = await self.connection.create_process(shlex.join(words), encoding="utf-8", errors="replace")
        self._tasks.append(asyncio.create_task(self._hear_errors()))
        while line := await self._process.stdout.readline():
            if line.startswith(GREETING):
                self.greeting = json.loads(line[len(GREETING) :])
                self._tasks.append(asyncio.create_task(self._hear()))
                return
        raise await self._why_it_ended()

    async def _why_it_ended(self) -> HostError:
        assert self._process is not None
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait_closed(), HOSTS.keepalive_seconds)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        said = self._stderr.strip().splitlines()
        last = said[-1] if said else "no reason given"
        name, code = self.host.name, self._process.exit_status
        if "No module named" in last and "ringrift_ops" in last:
            return NotBootstrappedError(
                name, f"{self.host.interpreter} does not have this package: ringrift cluster bootstrap {name}"
            )
        if code in _NOT_FOUND:
            return PythonMissingError(
                name,
                f"there is no Python at {self.host.interpreter} ({last}): set `python` in the inventory, "
                f"or run ringrift cluster bootstrap {name}",
            )
        ended = "was closed" if code is None else f"ended with {code}"
        return HostDroppedError(name, f"its program {ended}: {last}")

    async def _hear(self) -> None:
        import asyncssh

        assert self._process is not None
        try:
            while line := await self._process.stdout.readline():
                answer = json.loads(line)
                waiting = self._waiting.pop(answer["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except (OSError, asyncssh.Error, ValueError) as error:
            self.fail(named(self.host, error))
        else:
            self.fail(HostDroppedError(self.host.name, f"the connection to {shown(self.host)} was closed"))

    async def _hear_errors(self) -> None:
        import asyncssh

        assert self._process is not None
        with suppress(OSError, asyncssh.Error):  # the other channel tells that the connection broke
            while text := await self._process.stderr.read(_STDERR_TAIL):
                self._stderr = (self._stderr + text)[-_STDERR_TAIL:]

    def fail(self, error: HostError) -> None:
        """Tell everyone who waits that no answer will come, and close."""
        self.broken = self.broken or error
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self.broken)
        self._waiting.clear()
        self.connection.abort()

    async def ask(self, verb: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the host's answer. Raises :class:`HostHangsError`, :class:`HostDroppedError`."""
        assert self._process is not None
        if self.broken is not None:
            raise self.broken
        self._number += 1
        number = self._number
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            self._process.stdin.write(json.dumps({"id": number, "do": verb, "with": arguments}) + "\n")
            return await asyncio.wait_for(waiting, seconds)
        except TimeoutError:
            error = HostHangsError(self.host.name, f"no answer to {verb!r} within {seconds:g} s")
            self.fail(error)
            raise error from None
        except BrokenPipeError as broken:
            self.fail(named(self.host, broken))
            raise HostDroppedError(self.host.name, f"the connection to {shown(self.host)} was closed") from broken

    async def sftp(self) -> asyncssh.SFTPClient:
        """Return the connection's file channel, opened by the first who asks."""
        if self._sftp is None:
            self._sftp = asyncio.ensure_future(self.connection.start_sftp_client())
        return await asyncio.shield(self._sftp)


class Link:
    """A host and the key it has to show; connects when it is asked something."""

    def __init__(self, host: Host, key: HostKey) -> None:
        self.host = host
        self.key = key
        self.session_number = 0
        """How many sessions there have been."""
        self._session: asyncio.Task[Session] | None = None
        self._failed: tuple[float, HostError] | None = None

    # --- for threads -----------------------------------------------------------------------------

    def greeting(self) -> dict[str, Any]:
        """Return what the host said when it was reached: home, boot id, Python, versions, time."""
        limit = HOSTS.connect_tries * (HOSTS.connect_seconds + HOSTS.answer_seconds)
        return dict(self.wait(self._greeting(), limit))

    def ask(
        self, verb: str, *, seconds: float = HOSTS.answer_seconds, within: float | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Return the host's answer to one request, ``{"ok": ...}`` or ``{"error": {...}}``.

        ``seconds``: for the answer; ``within``: for everything, connecting included. Raises an
        :class:`UnreachableHostError` that says why there is none.
        """
        limit = within or 2 * (HOSTS.connect_tries * (HOSTS.connect_seconds + HOSTS.answer_seconds) + seconds)
        return self.wait(self.ask_soon(verb, arguments, seconds), limit)

    def wait(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """Run a coroutine of this link and return its answer."""
        future = Loop.get().start(work)
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise HostHangsError(self.host.name, f"no answer within {seconds:g} s") from None

    def close(self) -> None:
        """Give the connection up; the next question makes another."""
        self.wait(self._close(), HOSTS.answer_seconds)

    # --- in the loop -----------------------------------------------------------------------------

    async def ask_soon(self, verb: str, arguments: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The same in the event loop; a connection that broke meanwhile is made anew once."""
        session = await self.session()
        try:
            return await session.ask(verb, arguments, seconds)
        except HostDroppedError:
            return await (await self.session()).ask(verb, arguments, seconds)

    async def session(self) -> Session:
        """Return the living session, made now when there is none; all who ask share one attempt."""
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._failed[1]
        if (
            self._session is not None
            and self._session.done()
            and (self._session.cancelled() or self._session.exception() is not None or self._session.result().broken)
        ):
            self._session = None
        if self._session is None:
            self._session = asyncio.create_task(self._connect())
        return await asyncio.shield(self._session)

    async def _greeting(self) -> dict[str, Any]:
        return (await self.session()).greeting

    async def _close(self) -> None:
        if self._session is not None:
            with suppress(HostError):
                (await self._session).fail(HostDroppedError(self.host.name, "closed from this side"))
        self._session = self._failed = None

    async def _connect(self) -> Session:
        """Return a new session; a busy sshd that drops us before we are in is asked again."""
        pause, begun = HOSTS.connect_pause_seconds, time.monotonic()
        for tries_left in reversed(range(HOSTS.connect_tries)):
            try:
                session = await self._session_once()
            except TimeoutError:
                error: HostError = HostHangsError(
                    self.host.name,
                    f"no answer from {self._shown} within {time.monotonic() - begun:.0f} s; is it frozen?",
                )
                break
            except HostError as known:
                error = known
                if not isinstance(known, HostDroppedError) or not tries_left:
                    break
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause *= 2
            else:
                self._failed = None
                self.session_number += 1
                return session
        # A host that hangs costs everyone who waits for it a thread: it is asked the less, the longer that took.
        now = time.monotonic()
        hung = 2.0 * (now - begun) if isinstance(error, HostHangsError) else 0.0
        self._failed = (now + max(HOSTS.again_seconds, hung), error)
        raise error

    async def _session_once(self) -> Session:
        import asyncssh

        connection = None
        try:
            connection = await asyncio.wait_for(connect(self.host, self.key), HOSTS.connect_seconds)
            session = Session(self.host, connection)
            await asyncio.wait_for(session.begin(), HOSTS.answer_seconds)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, TimeoutError):
                raise
            if isinstance(error, OSError | asyncssh.Error | ValueError):
                raise named(self.host, error) from error
            raise
        return session

    @cached_property
    def _shown(self) -> str:
        return shown(self.host)


def shown(host: Host) -> str:
    """Return a host's address as the inventory has it."""
    return host.ssh_host if host.ssh_port is None else f"{host.ssh_host}:{host.ssh_port}"


def options(host: Host) -> dict[str, Any]:
    """Return the arguments of asyncssh's own connect that the inventory decides; ``~/.ssh/config`` has the rest."""
    given: dict[str, Any] = {
        "host": host.ssh_host,
        "login_timeout": HOSTS.connect_seconds,
        "keepalive_interval": HOSTS.keepalive_seconds,
        "keepalive_count_max": HOSTS.keepalive_misses,
        "password_auth": False,
        "kbdint_auth": False,
        "gss_auth": False,
        "host_based_auth": False,
        "agent_forwarding": False,
        "send_env": [],
    }
    if host.ssh_port is not None:
        given["port"] = host.ssh_port
    if host.ssh_user is not None:
        given["username"] = host.ssh_user
    if host.key_file is not None:
        path = Path(host.key_file).expanduser()
        if not path.is_file():
            raise AuthenticationError(host.name, f"there is no key file {path}; correct key_file in the inventory")
        given["client_keys"] = [str(path)]
    return given


async def connect(host: Host, key: HostKey) -> asyncssh.SSHClientConnection:
    """Return a connection to a host that has shown ``key``: the only place that makes one."""
    import asyncssh
    from asyncssh.public_key import get_default_public_key_algs

    asyncssh.set_log_level("WARNING")
    trusted = asyncssh.import_public_key(key.text)
    # The trusted key's kind first, then every other: a host that has only others shows one of them and is refused by
    # name, instead of hanging up without a word because no kind was left to agree on.
    kinds = list(dict.fromkeys([*trusted.sig_algorithms, *get_default_public_key_algs()]))
    return await asyncssh.connect(
        known_hosts=([trusted], [], []), server_host_key_algs=[kind.decode() for kind in kinds], **options(host)
    )


async def shown_key(host: Host) -> HostKey:
    """Return the key that a host shows, without trusting it: for ``ringrift cluster trust`` only."""
    import asyncssh

    given = {name: value for name, value in options(host).items() if name in ("host", "port")}
    try:
        found = await asyncio.wait_for(asyncssh.get_server_host_key(**given), HOSTS.connect_seconds)
    except TimeoutError:
        raise HostHangsError(host.name, f"no answer from {shown(host)} within {HOSTS.connect_seconds:g} s") from None
    except (OSError, asyncssh.Error, ValueError) as error:
        raise named(host, error) from error
    if found is None:
        raise HostDroppedError(host.name, f"{shown(host)} shows no host key")
    text = found.export_public_key("openssh").decode().split()
    return HostKey(f"{text[0]} {text[1]}")


def named(host: Host, error: Exception) -> UnreachableHostError:
    """Return the error of ours for one of asyncssh's or the operating system's."""
    import asyncssh

    where = shown(host)
    match error:
        case asyncssh.HostKeyNotVerifiable() | asyncssh.KeyExchangeFailed():
            return WrongHostKeyError(
                host.name,
                f"{where} shows another host key than the trusted one ({error}). If it was reinstalled, compare and "
                f"store the new one: ringrift cluster trust {host.name}. If not, somebody stands in between",
            )
        case asyncssh.PermissionDenied() | asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
            user = host.ssh_user or "this user"
            return AuthenticationError(
                host.name,
                f"{where} does not let {user} in ({error}); put the public key into its authorized_keys, "
                "or name the private one as key_file in the inventory",
            )
        case asyncssh.ConnectionLost() | asyncssh.DisconnectError() | asyncssh.ChannelOpenError():
            return HostDroppedError(host.name, f"the connection to {where} broke: {error}")
        case socket.gaierror():
            return HostRefusedError(host.name, f"the name {host.ssh_host} is unknown: {error.strerror}; check ssh_host")
        case ConnectionResetError() | BrokenPipeError():
            return HostDroppedError(host.name, f"{where} closed the connection: {error.strerror}")
        case ConnectionRefusedError():
            return HostRefusedError(host.name, f"nobody listens on {where}; is sshd running, is the port right?")
        case TimeoutError():
            return HostHangsError(host.name, f"no answer from {where}: {error}")
        case OSError():
            return HostRefusedError(host.name, f"cannot reach {where}: {error.strerror or error}")
    return HostDroppedError(host.name, f"{where}: {error}")


_LINKS: dict[tuple[int, str, str], Link] = {}
_LINKS_LOCK = threading.Lock()


def link_to(host: Host, key: HostKey) -> Link:
    """Return this process's link to a host: the same for everyone who means the same host and key."""
    identity = (os.getpid(), host.model_dump_json() + host.name, key.text)
    with _LINKS_LOCK:
        if identity not in _LINKS:
            _LINKS[identity] = Link(host, key)
        return _LINKS[identity]
