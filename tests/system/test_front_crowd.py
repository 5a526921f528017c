"""Two thousand open connections to one front, and clients that say nothing: its memory stays bounded."""

import asyncio
import json
import resource
import sys
from pathlib import Path

import aiohttp
import psutil
import pytest
from temporalio.testing import WorkflowEnvironment

from tests.client.test_stream import streams
from tests.support.calls import completion
from tests.support.wire import playing
from tests.support.workers import working
from tests.system.test_front_kills import chains_file, serving
from workers.dev.ports import free_port

CONNECTIONS = 2000
MIB = 2**20
MOST_MIB = 200
"""Above what the front takes with no connection."""


async def waiting(session: aiohttp.ClientSession) -> int:
    """Requests that the front has taken and not answered, beside this one."""
    async with session.get("/metrics", headers={"connection": "close"}) as response:
        text = await response.text()
    return int(float(text.partition("\ndurable_llm_front_open_requests ")[2].split()[0])) - 1


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_two_thousand_requests_wait_in_bounded_memory(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """All get the answer; one connection more is refused with 503; silent ones are closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    may_answer, port = asyncio.Event(), free_port()
    body = json.dumps(completion("late"))
    held = {**streams(("wait", may_answer), ("data", body), ("end",)), "headers": {"content-type": "application/json"}}
    async with playing(held) as wire, working(server_env.client) as dispatcher:
        env = {
            "TEMPORAL_ADDRESS": server_env.client.service_client.config.target_host,
            "DURABLE_LLM_TASK_QUEUE": dispatcher.task_queue, "DURABLE_LLM_FRONT_PORT": str(port),
            "DURABLE_LLM_CHAINS": str(chains_file(tmp_path, wire.url)),
            "DURABLE_LLM_FRONT_MAX_CONNECTIONS": str(CONNECTIONS + 2),
        }  # fmt: skip
        front = await serving(env)
        try:
            process = psutil.Process(front.pid)
            before = process.memory_info().rss
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)
            ) as session:

                async def ask() -> str:
                    asked = {"model": "fast", "messages": [{"role": "user", "content": "Hi."}]}
                    while True:
                        async with session.post(
                            "/v1/chat/completions", json=asked, headers={"Idempotency-Key": "one"}
                        ) as response:
                            if response.status == 200:
                                return str((await response.json())["choices"][0]["message"]["content"])
                            assert (
                                response.status == 503
                            )  # Temporal is busy on a slow machine: as any client, ask again
                        await asyncio.sleep(1)

                asking = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
                while await waiting(session) < CONNECTIONS:
                    assert not any(each.done() for each in asking)
                    await asyncio.sleep(0.2)
                _, one_more = await asyncio.open_connection("127.0.0.1", port)
                async with session.get("/healthz") as refused:
                    assert refused.status == 503
                one_more.close()
                assert await reader.read() == b""  # it was silent for too long, and its place is free again
                writer.close()
                grown = (process.memory_info().rss - before) / MIB
                may_answer.set()
                answers = await asyncio.gather(*asking)
        finally:
            await front.stop(5.0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(answers) == {"late"}
    assert grown < MOST_MIB
    assert len(wire.requests) == 1
    print(f"{CONNECTIONS} open requests take {grown:.0f} MiB", file=sys.stderr)
