"""The long part about HTTP: generated requests over everything as administrator, and the page in a real browser.

Run by `make test-runbooks`; has a platform of its own, because what is generated starts and resets runs.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from schemathesis import GenerationMode

from ringrift_ops.home import Home
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.logins import token
from tests.airflow.browser import Browser
from tests.airflow.conftest import START_SECONDS, USERS, Platform, output_of, processes_in, start, until, with_users
from tests.airflow.sweep import Sweep

pytestmark = pytest.mark.runbooks_campaign

EXAMPLES = 40
"""Per operation and mode."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that nothing else uses, with one generation made; requests are not counted."""
    root = tmp_path_factory.mktemp("http") / "home"
    with_users(Home(root))
    process = start(root, RINGRIFT_HTTP_RATE="1000000")
    try:
        until("the platform is up", START_SECONDS, lambda: "is up after" in output_of(root).read_text())
        installation = Installation(Home(root))
        port = int(installation.url().rsplit(":", 1)[1])
        platform = Platform(Home(root), process, Api(port, USER, Secrets.of(installation).password))
        assert platform.over("hex8_2p", platform.trigger("hex8_2p")) == "success"
        yield platform
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    assert processes_in(root) == {}


@pytest.mark.timeout(3000)
def test_R41_two_thousand_generated_requests_break_nothing_and_get_past_nothing(own: Platform) -> None:
    tokens = {name: token(own.home, name).token for name in (USER, *USERS)}
    sweep = Sweep(f"{Installation(own.home).url()}/ringrift", tokens)
    for operation in sweep.operations():
        permission = operation.definition.raw["x-permission"]
        before = Counter(sweep.codes)
        sweep.run(operation, USER, EXAMPLES, [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        if permission != "none":
            sweep.run(operation, None, 5, [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], expect=401)
        if permission in ("training:start", "model:write", "admin"):
            sweep.run(operation, "vera", 5, [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], expect=403)
        print(operation.label, dict(sweep.codes - before))
    print("cases", sweep.cases, "codes", dict(sorted(sweep.codes.items())))
    assert sweep.cases >= 2000
    assert max(sweep.codes) < 500
    installation = Installation(own.home)
    said = "\n".join(sweep.texts) + "".join(path.read_text() for path in installation.logs.glob("*.log"))
    secrets = [*vars(Secrets.of(installation)).values(), *tokens.values(), *(f"{name}-password" for name in USERS)]
    assert [one for one in secrets if one in said] == []
    assert "Exception in ASGI application" not in said


def test_R1_the_page_opens_inside_airflow_in_a_real_browser(
    own: Platform, tmp_path: Path, debian_package: Callable[[str, str], str]
) -> None:
    url = Installation(own.home).url()
    cookie = token(own.home, "vera").token
    with Browser.started(debian_package("chromium", "chromium"), tmp_path) as browser:
        browser.ask("Network.setCookie", name="_token", value=cookie, url=url)
        for path, configs in (("/plugin/ringrift", 12), ("/dags/hex8_2p/plugin/ringrift_config", 1)):
            browser.ask("Page.navigate", url=url + path)
            shown = until(f"{path} shows the page", 120, partial(cells, browser))
            assert shown == configs * 7
            shot = base64.b64decode(browser.ask("Page.captureScreenshot")["data"])
            (tmp_path / f"{configs}.png").write_bytes(shot)
            assert len(shot) > 20_000
            if keep := os.environ.get("SCREENSHOTS"):
                shutil.copy(tmp_path / f"{configs}.png", keep)
        browser.ask("Page.navigate", url=url)
        until("the menu names it", 60, lambda: "RingRift" in str(browser.run("document.body.innerText")))
        browser.ask("Network.clearBrowserCookies")
        browser.ask("Page.navigate", url=f"{url}/ringrift/page")
        until("it asks for a login", 60, lambda: "NotLoggedIn" in str(browser.run("document.body.innerText")))


def cells(browser: Browser) -> int:
    """Return the cells of the page in its frame; 0 before it is there."""
    return int(
        browser.run("document.querySelector('iframe')?.contentDocument?.querySelectorAll('td > b').length ?? 0") or 0
    )
