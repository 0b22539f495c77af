"""What the front writes: lines anywhere, a moving line where there is a terminal to show it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text


class Wait:
    """A line that shows for how long something has been going on."""

    def __init__(self, picture: Picture | None, text: str) -> None:
        self._picture, self._text, self._begun = picture, text, time.monotonic()

    def tick(self) -> None:
        """Show the time gone by; waits a little, so that callers can poll without a pause of their own."""
        if self._picture is not None:
            self._picture.show(Text(f"{self._text} {time.monotonic() - self._begun:.0f} s"))
        time.sleep(0.25)


class Picture:
    """A place at the end of the output that is drawn anew."""

    def __init__(self, screen: Screen, live: Live) -> None:
        self._screen, self._live = screen, live

    def show(self, content: RenderableType) -> None:
        if not self._screen.gone:
            try:
                self._live.update(content, refresh=True)
            except OSError:
                self._screen.gone = True


class Screen:
    """Standard output. When the terminal is gone (closed window) nothing is written and nothing fails."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.gone = False

    @property
    def terminal(self) -> bool:
        return self.console.is_terminal and not self.gone

    def say(self, text: RenderableType) -> None:
        """Write a line (or a table)."""
        if self.gone:
            return
        try:
            self.console.print(text)
        except OSError:
            self.gone = True

    @contextmanager
    def waiting(self, text: str) -> Iterator[Wait]:
        """Show ``text`` and the seconds while the block lasts."""
        if not self.terminal:
            self.say(f"{text} ...")
            yield Wait(None, text)
            return
        with self.picture() as picture:
            yield Wait(picture, text)

    @contextmanager
    def picture(self) -> Iterator[Picture]:
        """Yield a picture that is gone at the end of the block. Only for a terminal."""
        live = Live(console=self.console, auto_refresh=False, transient=True)
        live.start()
        try:
            yield Picture(self, live)
        finally:
            try:
                live.stop()
            except OSError:
                self.gone = True
