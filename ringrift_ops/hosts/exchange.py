"""The node's end of the exchange with its leader: requests over HTTP that the node makes, each with a token of its own.

A token is signed with the cluster's secret, names the node and the one request it is for, and lives a minute. The
leader's end is ``ringrift_ops.web.exchange``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from ringrift_ops.errors import ExitCode, InfrastructureError, RingRiftError, UsageError
from ringrift_ops.hosts.folder import locked
from ringrift_ops.settings.edge import EDGE
from ringrift_ops.store import WriteError, fsync_dir, sha256_file

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

PREFIX = "/ringrift-edge/v1"
AUDIENCE = "ringrift-edge"
ASKER = "p2p:pipeline"
"""In place of a node's name: somebody who asks for runs. No host can be called so."""
ALGORITHM = "HS256"
TOKEN_SECONDS = 60
LEEWAY_SECONDS = 10
LEAST_SECRET = 32
"""Characters; the leader makes one of 86."""

TOKEN_VARIABLE = "RINGRIFT_CLUSTER_AUTH_TOKEN"
LEADER_VARIABLE, NODE_VARIABLE, TOKEN_FILE_VARIABLE = (
    "RINGRIFT_EDGE_LEADER",
    "RINGRIFT_EDGE_NODE",
    "RINGRIFT_EDGE_TOKEN_FILE",
)

_PAUSES = (0.5, 1.0, 2.0, 5.0)
_LOOK_SECONDS = 0.2


class NoTokenError(UsageError):
    """Nobody said where the cluster's secret is, or what is there is none."""


class LeaderError(InfrastructureError):
    """Something about the leader. ``url``: as it was given."""

    def __init__(self, url: str, why: str, remedy: str) -> None:
        super().__init__(f"Cannot connect to P2P leader at {url}: {why}; {remedy}")
        self.url = url


class LeaderAwayError(LeaderError):
    """The leader does not answer; it may come back by itself."""


class TokenRefusedError(LeaderError):
    """The leader does not accept this node's secret."""


class LeaderAnswerError(LeaderError):
    """The leader answers, but not as one of this version does."""


class DamagedArrivalError(InfrastructureError):
    """What arrived from the leader, or there, is not what was sent."""


def secret_from(file: Path | None, environ: dict[str, str] | None = None) -> str:
    """Return the cluster's secret: ``file``'s, else ``RINGRIFT_CLUSTER_AUTH_TOKEN``. Raises :class:`NoTokenError`."""
    found = (os.environ if environ is None else environ).get(TOKEN_VARIABLE, "").strip()
    where = TOKEN_VARIABLE
    if file is not None:
        where = str(file)
        try:
            found = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NoTokenError(f"--token-file {file}: cannot be read: {error}") from error
        if file.stat().st_mode & 0o077:
            raise NoTokenError(f"--token-file {file}: others may read it; chmod 600 {file}")
    if len(found) < LEAST_SECRET:
        why = f"what {where} holds is too short to be it" if found else "no token"
        raise NoTokenError(
            f"{why}: copy the leader's RINGRIFT_HOME/airflow/edge_token (mode 600) and give --token-file, "
            f"or put it into {TOKEN_VARIABLE}"
        )
    return found


def token(secret: str, node: str, request: str) -> str:
    """Return the token of one request ("PUT /path", the path without its query) by ``node``."""
    import jwt

    now = int(time.time())
    claims = {"aud": AUDIENCE, "sub": node, "for": request, "iat": now, "exp": now + TOKEN_SECONDS}
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def checked_url(url: str) -> str:
    """Return the leader's address without a slash at its end; raises ``UsageError`` unless it is http or https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UsageError(f"--leader {url}: an address such as https://leader.example:8443 is needed")
    return url.rstrip("/")


@dataclass(frozen=True)
class Exchange:
    """One node's requests to its leader."""

    url: str
    node: str
    secret: str

    @classmethod
    def of_environment(cls) -> Exchange:
        """Return the exchange of the worker that this process belongs to."""
        file = Path(os.environ[TOKEN_FILE_VARIABLE])
        return cls(os.environ[LEADER_VARIABLE], os.environ[NODE_VARIABLE], secret_from(file))

    def __repr__(self) -> str:
        return f"Exchange({self.url}, {self.node})"

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        return httpx.Client(timeout=EDGE.answer_seconds, follow_redirects=False)

    # --- one request -----------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """Return what the leader says to anybody: {"ringrift_edge": 1, "time"}."""
        answer = self._once("GET", "/hello", None, None)
        if answer.get("ringrift_edge") != 1:
            raise self._strange("what answers there is no leader of RingRift Ops")
        return answer

    def ask(self, method: str, path: str, body: Any = None, *, patience: float = 0.0) -> dict[str, Any]:
        """Return the leader's JSON answer; ``patience`` seconds are waited for a leader that is away."""
        return self._patiently(lambda: self._once(method, path, body, None), patience)

    def put(self, path: str, content: bytes, **query: object) -> dict[str, Any]:
        """Send bytes and return the answer."""
        return self._patiently(lambda: self._once("PUT", path, content, query), EDGE.patience_seconds)

    def _patiently(self, step: Callable[[], T], patience: float) -> T:
        deadline, tries = time.monotonic() + patience, 0
        while True:
            try:
                return step()
            except LeaderAwayError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1

    def _headers(self, method: str, path: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token(self.secret, self.node, f'{method} {PREFIX}{path}')}"}

    def _once(self, method: str, path: str, body: Any, query: dict[str, object] | None) -> dict[str, Any]:
        import httpx

        content = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
        try:
            answer = self._client.request(
                method, f"{self.url}{PREFIX}{path}", headers=self._headers(method, path),
                params={name: str(value) for name, value in (query or {}).items()}, **content,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise self._away(error) from error
        return self._read(answer)

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        self._check(answer.status_code, answer)
        try:
            found = answer.json()
        except ValueError as error:
            raise self._strange("what answers there is no leader of RingRift Ops (no JSON)") from error
        return dict(found)

    def _check(self, code: int, answer: httpx.Response) -> None:
        if code < 300:
            return
        if code in (401, 403):
            raise TokenRefusedError(
                self.url, f"it refuses this node's token ({_detail(answer)})",
                "copy the leader's RINGRIFT_HOME/airflow/edge_token again: it is not the same secret, or was renewed",
            )  # fmt: skip
        if code in (408, 429) or code >= 500:
            raise LeaderAwayError(
                self.url, f"it answers {code}", "is the platform up? See its logs/platform/edge-api.log"
            )
        if code == 404 and not _is_ours(answer):
            raise self._strange("what answers there has no Edge door (404)")
        raise LeaderAnswerError(self.url, f"it answers {code}: {_detail(answer)}", "see docs/edge.md")

    def _away(self, error: Exception) -> LeaderError:
        remedy = "check the address, that the platform is up (`make up`) and that no firewall is between"
        text = str(error) or type(error).__name__
        if "CERTIFICATE" in text.upper():
            return LeaderAnswerError(
                self.url, f"its certificate is not trusted: {text}", "put its authority into SSL_CERT_FILE"
            )
        return LeaderAwayError(self.url, text, remedy)

    def _strange(self, why: str) -> LeaderAnswerError:
        return LeaderAnswerError(
            self.url, why, "give the address of the leader's Edge door: `make up` there prints it once an Edge host "
            "is in its inventory",
        )  # fmt: skip

    # --- files -----------------------------------------------------------------------------------

    def fetch(self, path: str, target: Path, sha: str, meanwhile: Callable[[], object], *, mode: int = 0o644,
              force: bool = False) -> bool:  # fmt: skip
        """Bring what lies at ``path`` to ``target``, by content; a broken transfer goes on where it stood.

        Returns False when it is here already, unless ``force``. Two that fetch the same file wait for each other, and
        do ``meanwhile``. Raises :class:`DamagedArrivalError`, ``WriteError`` and the errors of the exchange.
        """
        if not force and _is_here(target, sha):
            return False
        part = target.with_name(f".{target.name}.{sha[:16]}.part")
        lock, before = part.with_suffix(".lock"), _identity(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            while True:
                with locked(lock, wait=False) as mine:
                    if mine:
                        anew = force and _identity(target) == before  # else somebody has just sent it again
                        fetched = anew or not _is_here(target, sha)
                        if fetched:
                            self._fetch_whole(path, part, target, sha, meanwhile, mode)
                        lock.unlink(missing_ok=True)
                        return fetched
                meanwhile()
                time.sleep(_LOOK_SECONDS)
        except OSError as error:
            raise WriteError(target, error) from error

    def _fetch_whole(
        self, path: str, part: Path, target: Path, sha: str, meanwhile: Callable[[], object], mode: int
    ) -> None:
        for _ in range(2):
            self._patiently(lambda: self._fetch(path, part, meanwhile), EDGE.patience_seconds)
            if sha256_file(part) == sha:
                with part.open("rb") as written:
                    os.fsync(written.fileno())
                part.chmod(mode)
                part.replace(target)
                fsync_dir(target.parent)
                return
            part.unlink()
        raise DamagedArrivalError(f"{target.name} arrived damaged twice from {self.url}; look at disk and memory")

    def _fetch(self, path: str, part: Path, meanwhile: Callable[[], object]) -> None:
        import httpx

        have = part.stat().st_size if part.exists() else 0
        headers = self._headers("GET", path) | ({"range": f"bytes={have}-"} if have else {})
        try:
            with self._client.stream("GET", f"{self.url}{PREFIX}{path}", headers=headers) as answer:
                if answer.status_code == 416:  # nothing is left to send: whole, or too long
                    return
                if answer.status_code >= 300:
                    answer.read()
                self._check(answer.status_code, answer)
                with part.open("ab" if answer.status_code == 206 else "wb") as opened:
                    for block in answer.iter_bytes(EDGE.block):
                        opened.write(block)
                        meanwhile()
        except httpx.HTTPError as error:
            raise self._away(error) from error
        except OSError as error:
            raise WriteError(part, error) from error

    def bring(self, path: str, source: Path, sha: str, meanwhile: Callable[[], object]) -> None:
        """Send a file to ``path``; what the leader has of it already is not sent again."""
        for _ in range(2):
            have = self.ask("GET", path, patience=EDGE.patience_seconds)
            if have["whole"]:
                return
            if self._bring(path, source, int(have["have"]), meanwhile):
                return
        raise DamagedArrivalError(
            f"{source} (sha256 {sha}) arrived damaged twice at {self.url}; look at disk and memory"
        )

    def _bring(self, path: str, source: Path, start: int, meanwhile: Callable[[], object]) -> bool:
        size = source.stat().st_size
        offset = start if start <= size else 0
        with source.open("rb") as opened:
            while True:
                opened.seek(offset)
                answer = self.put(path, opened.read(EDGE.block), offset=offset, size=size)
                meanwhile()
                if answer["whole"] or int(answer["have"]) <= offset:  # done, or begun anew because it was wrong
                    return bool(answer["whole"])
                offset = int(answer["have"])


def told(error: RingRiftError) -> dict[str, Any]:
    """Return an error as it travels."""
    return {"type": type(error).__name__, "message": str(error), "code": int(ExitCode(error.exit_code))}


def segment(name: str) -> str:
    """Return a name as one segment of a path."""
    return quote(name, safe="")


def _is_here(target: Path, sha: str) -> bool:
    return target.is_file() and sha256_file(target) == sha


def _identity(target: Path) -> tuple[int, int] | None:
    """Return what another file under the same name has not, None where there is none."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail"))[:300]
    except (ValueError, AttributeError):
        return answer.text[:200].replace("\n", " ")


def _is_ours(answer: httpx.Response) -> bool:
    return str(answer.headers.get("x-ringrift-edge")) == "1"
