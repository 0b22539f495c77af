"""The long part about HTTP: generated requests over everything as administrator, and the page in a real browser.

Run by `make test-runbooks`; has a platform of its own, because what is generated starts and resets runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from schemathesis import GenerationMode

from ringrift_ops.home import Home
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.logins import token
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


BROWSER = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1600,1100 --virtual-time-budget=20000"
)


def test_R1_the_page_opens_inside_airflow_in_a_real_browser(
    own: Platform, tmp_path: Path, debian_package: Callable[[str, str], str]
) -> None:
    chromium = debian_package("chromium", "chromium")
    url, bearer = Installation(own.home).url(), token(own.home, "vera").token
    plugins = httpx.get(f"{url}/api/v2/plugins", headers={"authorization": f"Bearer {token(own.home).token}"}).json()
    views = next(one for one in plugins["plugins"] if one["name"] == "ringrift")["external_views"]
    assert {(one["destination"], one["url_route"]) for one in views} == {
        ("nav", "ringrift"),
        ("dag", "ringrift_config"),
    }
    profile = tmp_path / "profile"
    environment = os.environ | {"HOME": str(tmp_path), "no_proxy": "localhost"}

    def seen(path: str, *more: str) -> str:
        words = [chromium, *BROWSER.split(), f"--user-data-dir={profile}", "--dump-dom", *more, url + path]
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=240, check=False
        ).stdout  # fmt: skip

    assert "NotLoggedIn" in seen("/ringrift/page")
    login = httpx.get(f"{url}/ringrift/page", headers={"cookie": f"_token={bearer}"})
    assert login.status_code == 200
    assert login.text.count('<td class="') == 12 * 7
