"""Debian's Chromium without a window, steered over its own protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1700,1150 --remote-debugging-port=0"
)


class Browser:
    """One page of a browser."""

    def __init__(self, line: ClientConnection) -> None:
        self._line, self._asked = line, 0

    @classmethod
    @contextmanager
    def started(cls, command: str, folder: Path) -> Iterator[Browser]:
        """Start it with a fresh profile in ``folder``; end it with all it started afterwards."""
        from tests.airflow.conftest import until

        profile = folder / "profile"
        process = subprocess.Popen(
            [command, *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
            env=os.environ | {"HOME": str(folder)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            said = profile / "DevToolsActivePort"
            until("the browser listens", 60, lambda: said.exists() and "\n" in said.read_text())
            port = said.read_text().split("\n")[0]
            pages = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            line = next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page")
            with connect(line, max_size=None, proxy=None) as connection:
                yield cls(connection)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """Return the answer to one command of the protocol."""
        self._asked += 1
        self._line.send(json.dumps({"id": self._asked, "method": method, "params": given}))
        while True:
            answer = json.loads(self._line.recv(timeout=60))
            if answer.get("id") == self._asked:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """Return the value of a script in the page."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")
