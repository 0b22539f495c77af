"""Which host key is trusted for which host. A key comes from the inventory, else from ``config/host_keys``.

``config/host_keys`` has a line per host, ``<name> <type> <base64>``, as ``known_hosts`` has; ``ringrift cluster trust``
writes it. Nothing else is ever believed: neither ``~/.ssh/known_hosts`` nor a first connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import BadHostKeyFileError, UntrustedHostError
from ringrift_ops.store import atomic_write

if TYPE_CHECKING:
    from ringrift_ops.settings import Host


@dataclass(frozen=True)
class HostKey:
    """A public key: ``text`` is ``<type> <base64>``."""

    text: str

    @property
    def fingerprint(self) -> str:
        """``SHA256:...``, as ``ssh-keygen -l`` shows it. Raises :class:`BadHostKeyFileError`."""
        import asyncssh

        try:
            return str(asyncssh.import_public_key(self.text).get_fingerprint())
        except asyncssh.KeyImportError as error:
            raise BadHostKeyFileError(f"{self.text[:40]!r}... is not a public key: {error}") from error


def trusted_keys(home: Home) -> dict[str, HostKey]:
    """Return the stored keys by host name. Raises :class:`BadHostKeyFileError` with the line."""
    try:
        lines = home.host_keys.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadHostKeyFileError(f"{home.host_keys} cannot be read: {error}") from error
    keys = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) != 3:
            raise BadHostKeyFileError(
                f"{home.host_keys} line {number}: not '<host> <type> <base64>'; remove it and trust the host again"
            )
        keys[words[0]] = HostKey(f"{words[1]} {words[2]}")
    return keys


def trusted_key(home: Home, host: Host) -> HostKey:
    """Return the key that ``host`` has to show. Raises :class:`UntrustedHostError`."""
    if host.host_key is not None:
        return HostKey(host.host_key)
    found = trusted_keys(home).get(host.name)
    if found is None:
        raise UntrustedHostError(host.name)
    return found


def trust(home: Home, host: str, key: HostKey) -> None:
    """Store ``key`` as the one of ``host``, in the place of an earlier one."""
    keys = trusted_keys(home) | {host: key}
    text = "# Host keys that `ringrift cluster trust` was told to trust.\n" + "".join(
        f"{name} {one.text}\n" for name, one in sorted(keys.items())
    )
    atomic_write(home.host_keys, text.encode("ascii"), mode=0o600)
