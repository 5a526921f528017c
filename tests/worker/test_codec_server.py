"""The codec server as a process, over real HTTP: who is let in, what comes back, and what is never said."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.requests import Request
from starlette.responses import Response
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.testing import WorkflowEnvironment

from durable_llm import data_converter
from tests.client.test_dispatcher import fresh_id
from tests.conftest import stage
from tests.docs.settings_tables import settings_table
from tests.support import ROOT
from tests.support.encryption import client_with, key, keys
from tests.support.processes import outcome, start
from tests.support.scripted import answer
from workers.codec.access import COOKIE, Access
from workers.codec.login import logged_in_page, login_page
from workers.codec.server import MAX_BODY_BYTES
from workers.codec.settings import CODEC_PREFIX, CodecSettings, load_codec_settings
from workers.settings import SettingsError

TOKEN = "open-sesame-0123456789"
UI, ELSEWHERE = "http://127.0.0.1:8233", "http://127.0.0.1:8000"
BEARER = {"authorization": f"Bearer {TOKEN}"}
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"prOmpt-canary"')
ENVIRONMENT = {
    **keys("2026-11", "2026-05"),
    f"{CODEC_PREFIX}TOKEN": TOKEN,
    f"{CODEC_PREFIX}PORT": "0",
    "DURABLE_LLM_LOG_FORMAT": "json",
}


class Running:
    """A codec server, where it is, and all that it printed once it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Running]:
    """A codec server with two keys, for the UI at its default address."""
    process = await start("-m", "workers", "codec-server", **ENVIRONMENT)
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    port = re.search(r"ready: 127\.0\.0\.1 port (\d+), keys 2026-11, 2026-05, for http://127\.0\.0\.1:8233", line)
    assert port, await outcome(process)
    yield Running(process, f"http://127.0.0.1:{port[1]}")
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.fixture
async def http(server: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps cookies, as a browser does."""
    async with httpx.AsyncClient(base_url=server.address) as client:
        yield client


def body(*payloads: Payload) -> dict:
    """Payloads as the UI sends them."""
    return MessageToDict(Payloads(payloads=payloads))


def payloads(response: httpx.Response) -> list[Payload]:
    """Payloads as the UI gets them."""
    assert response.status_code == 200, response.text
    return list(ParseDict(response.json(), Payloads()).payloads)


async def encrypted(*key_ids: str) -> Payload:
    """A payload that was encrypted with the first of these keys."""
    return (await data_converter(keys(*key_ids)).payload_codec.encode([PLAIN]))[0]


# What it does


async def test_a_real_historys_payloads_come_back_readable(
    http: httpx.AsyncClient, server_env: WorkflowEnvironment
) -> None:
    """Every payload of a call's start, by way of the UI's own request; encoded again, a worker reads it."""
    client = await client_with(server_env, "2026-05")
    async with stage(client, answer("anSwer-canary")) as ready:
        handle = await ready.dispatcher.submit("openai/gpt-4o-mini", "prOmpt-canary", call_id=fresh_id())
        await handle.result()
        history = await client.get_workflow_handle(handle.call_id).fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    completed = history.events[-1].workflow_execution_completed_event_attributes
    asked = [*started.input.payloads, *started.memo.fields.values(), *completed.result.payloads]
    headers = {**BEARER, "x-namespace": "default"}
    plain = payloads(await http.post("/decode?preserveStorageRefs=true", json=body(*asked), headers=headers))
    texts = b"".join(payload.data for payload in plain)
    assert b"prOmpt-canary" in texts
    assert b"anSwer-canary" in texts
    assert {payload.metadata["encoding"] for payload in plain} == {b"json/plain"}
    again = payloads(await http.post("/encode", json=body(*plain), headers=headers))
    assert {payload.metadata["encryption-key-id"] for payload in again} == {b"2026-11"}
    assert await data_converter(keys("2026-11")).payload_codec.decode(again) == plain


async def test_one_lost_key_does_not_hide_the_rest(http: httpx.AsyncClient) -> None:
    """What cannot be decrypted stays as it is, with the id of its key; plain payloads pass."""
    lost = await encrypted("lost")
    answered = await http.post("/decode", json=body(await encrypted("2026-05"), lost, PLAIN), headers=BEARER)
    assert payloads(answered) == [PLAIN, lost, PLAIN]


async def test_its_health_is_told_to_everybody(http: httpx.AsyncClient) -> None:
    """A health check has no token."""
    assert (await http.get("/health")).text == "ok"


# Who is let in


@pytest.mark.parametrize("path", ["/decode", "/encode"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": TOKEN},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"{COOKIE}={TOKEN}", "origin": UI},
        {"cookie": f"{COOKIE}=", "origin": UI},
        {"cookie": f"{COOKIE}=\xe4", "origin": UI},
    ],
)
async def test_who_has_no_token_gets_nothing(http: httpx.AsyncClient, path: str, headers: dict) -> None:
    """401 with what to do, whatever else was sent; the token itself is no cookie."""
    headers = {name: value.encode("latin-1") for name, value in headers.items()}
    refused = await http.post(path, json=body(await encrypted("2026-11")), headers=headers)
    assert refused.status_code == 401
    assert "/login" in refused.text
    assert "canary" not in refused.text


async def test_a_browser_logs_in_once_and_the_ui_may_use_it(http: httpx.AsyncClient) -> None:
    """A cookie that no script reads and no other site sends, good for the UI's page and for no other."""
    form = (await http.get("/login")).text
    assert '<form method="post" action="/login">' in form
    wrong = await http.post("/login", data={"token": "open-sesame-9876543210"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    right = await http.post("/login", data={"token": f" {TOKEN} "})
    assert (right.status_code, right.headers["location"]) == (303, "/login")
    cookie = right.headers["set-cookie"].lower()
    assert all(mark in cookie for mark in ("httponly", "samesite=strict", "max-age=43200", "path=/"))
    assert TOKEN not in cookie
    assert "logged in" in (await http.get("/login")).text
    asked = body(await encrypted("2026-11"))
    from_ui = await http.post("/decode", json=asked, headers={"origin": UI})
    assert payloads(from_ui) == [PLAIN]
    assert from_ui.headers["cache-control"] == "no-store"
    for headers in ({}, {"origin": ELSEWHERE}, {"origin": UI, "authorization": "Bearer wrong"}):
        assert (await http.post("/decode", json=asked, headers=headers)).status_code == 401
    await http.post("/logout")
    assert (await http.post("/decode", json=asked, headers={"origin": UI})).status_code == 401


async def test_only_the_uis_pages_may_read(http: httpx.AsyncClient) -> None:
    """Preflights need no token and tell only the configured origins that they may; answers, refusals too, say so."""
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-namespace"}
    ours = await http.options("/decode", headers={"origin": UI, **asks})
    assert ours.status_code == 200
    assert ours.headers["access-control-allow-origin"] == UI
    assert ours.headers["access-control-allow-credentials"] == "true"
    theirs = await http.options("/decode", headers={"origin": ELSEWHERE, **asks})
    assert (theirs.status_code, "access-control-allow-origin" in theirs.headers) == (400, False)
    for headers, status in ((BEARER, 200), ({}, 401)):
        for origin, allowed in ((UI, UI), (ELSEWHERE, None)):
            answered = await http.post("/decode", json={}, headers={"origin": origin, **headers})
            assert (answered.status_code, answered.headers.get("access-control-allow-origin")) == (status, allowed)


async def test_the_login_page_runs_nothing_and_is_shown_in_no_frame(http: httpx.AsyncClient) -> None:
    """No script, no other site's frame around it, and no copy in a cache; before the login and after it."""
    before = await http.get("/login")
    await http.post("/login", data={"token": TOKEN})
    after = await http.get("/login")
    for page, shown in ((before, "Type the token"), (after, "Configure Codec Server")):
        assert shown in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["cache-control"] == "no-store"
        assert "<script" not in page.text


def test_nothing_that_a_request_says_is_markup() -> None:
    """The page quotes the address that the browser used, which is a header like any other."""
    assert "<script" not in logged_in_page('http://x/"><script>', ["http://ui"])
    assert "<script" not in login_page("<script>")


def test_sessions_end() -> None:
    """After their time, and with the token that they came from; a UI under https gets a cookie for https alone."""
    access, https = Access(TOKEN, [UI]), Access(TOKEN, ["https://ui.internal"])

    def session(of: Access) -> str:
        of.begin_session(response := Response())
        return response.headers["set-cookie"]

    def lets_in(access: Access, cookie: str) -> bool:
        value = cookie.partition(";")[0].encode()
        scope = {"type": "http", "headers": [(b"cookie", value), (b"origin", UI.encode())]}
        return access.allows(Request(scope))

    fresh = session(access)
    assert lets_in(access, fresh)
    assert not lets_in(Access("another-token-0123456789", [UI]), fresh)
    old = access._sessions.encrypt_at_time(b"", 1_600_000_000).decode()
    assert not lets_in(access, f"{COOKIE}={old}")
    assert ("secure" in session(https).lower(), "secure" in fresh.lower()) == (True, False)


# What it refuses


@pytest.mark.parametrize("raw", [b"", b"{", b'{"payloads": 7}', b'{"payloads": [{"data": "\xff"}]}', b"null"])
async def test_what_is_no_payloads_is_refused(http: httpx.AsyncClient, raw: bytes) -> None:
    """400 in one sentence, no traceback."""
    refused = await http.post("/decode", content=raw, headers=BEARER)
    assert (refused.status_code, refused.text) == (400, "expected Temporal's Payloads as JSON")


async def test_a_body_beyond_the_limit_is_not_read_to_its_end(http: httpx.AsyncClient) -> None:
    """413, whether its length was announced or not."""

    async def drips() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1_000_000 + 2):
            yield b" " * 1_000_000

    for content in (b" " * (MAX_BODY_BYTES + 1), drips()):
        refused = await http.post("/decode", content=content, headers=BEARER)
        assert refused.status_code == 413


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({f"{CODEC_PREFIX}TOKEN": ""}, "DURABLE_LLM_CODEC_TOKEN: expected at least 16 characters"),
        ({f"{CODEC_PREFIX}TOKEN": "too short"}, "DURABLE_LLM_CODEC_TOKEN: expected at least 16 characters"),
        ({f"{CODEC_PREFIX}TOKEN_FILE": "/nonesuch"}, "DURABLE_LLM_CODEC_TOKEN and DURABLE_LLM_CODEC_TOKEN_FILE"),
        ({f"{CODEC_PREFIX}UI_ORIGINS": "*"}, "DURABLE_LLM_CODEC_UI_ORIGINS: '*' is not an origin"),
        ({f"{CODEC_PREFIX}UI_ORIGINS": f"{UI}/namespaces"}, "is not an origin"),
        ({f"{CODEC_PREFIX}UI_ORIGINS": " , "}, "DURABLE_LLM_CODEC_UI_ORIGINS is empty"),
        ({f"{CODEC_PREFIX}PORT": "http"}, "DURABLE_LLM_CODEC_PORT: Input should be a valid integer"),
        (keys(), "DURABLE_LLM_ENCRYPTION_KEYS is not set"),
        ({"DURABLE_LLM_ENCRYPTION_KEYS": key("a")}, "DURABLE_LLM_ENCRYPTION_KEYS: entry 1 is not a pair"),
    ],
)
def test_it_does_not_start_half_open(monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], says: str) -> None:
    """Without a token, a key or a UI to serve it refuses: the variable is named, its value is not."""
    for name, value in {**ENVIRONMENT, **changed}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=re.escape(says)) as caught:
        load_codec_settings()
    assert not [secret for secret in (TOKEN, key("a"), "too short") if secret in str(caught.value)]


async def test_what_cannot_be_used_is_status_2() -> None:
    """A missing token and an address that is not this machine's: one line each, no traceback."""
    for changed, says in (
        ({f"{CODEC_PREFIX}TOKEN": ""}, "error: DURABLE_LLM_CODEC_TOKEN: "),
        ({f"{CODEC_PREFIX}HOST": "192.0.2.1"}, "error: DURABLE_LLM_CODEC_PORT: cannot listen on 192.0.2.1"),
    ):
        status, printed = await outcome(await start("-m", "workers", "codec-server", **{**ENVIRONMENT, **changed}))
        assert (status, printed.startswith(says), "Traceback" in printed) == (2, True, False), printed


async def test_it_stops_on_sigterm_and_has_logged_no_secret(server: Running, http: httpx.AsyncClient) -> None:
    """Status 0; neither token, key, payload nor session in what it printed, after logins, errors and lost keys."""
    await http.post("/login", data={"token": "wrong-wrong-wrong-wrong"})
    session = (await http.post("/login", data={"token": TOKEN})).headers["set-cookie"]
    await http.post("/decode", json=body(await encrypted("lost"), await encrypted("2026-11")), headers=BEARER)
    await http.post("/decode", content=b"prOmpt-canary", headers=BEARER)
    server.process.send_signal(signal.SIGTERM)
    status, printed = await outcome(server.process)
    assert status == 0
    records = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert "a login with a wrong token" in {record["message"] for record in records}
    assert "encrypted with the key 'lost', which this process does not have" in printed
    secrets = (TOKEN, "wrong-wrong", key("2026-11"), "canary", session[20:60])
    assert not [secret for secret in secrets if secret in printed]


def test_the_settings_page_has_the_declared_ones() -> None:
    """Name, default and sentence of each setting of the codec server."""
    page = (ROOT / "docs" / "encryption.md").read_text()
    assert settings_table(CodecSettings, CODEC_PREFIX) in page


def test_settings_do_not_show_the_token() -> None:
    """A log of the settings has no token."""
    assert TOKEN not in repr(CodecSettings(token=TOKEN))
