"""The program itself: help, completion, version, the service's commands, and every way out of it."""

import asyncio
import json
import os
import signal
import sys

from typer.main import get_command
from typer.testing import CliRunner

from durable_llm import __version__
from durable_llm.cli.exits import Exit
from durable_llm.cli.program import app
from tests.support import ROOT
from tests.support.cli import MODEL, ended, run, server, start

COMMANDS = [
    *(
        "call",
        "submit",
        "embed",
        "batch",
        "result",
        "show",
        "list",
        "cancel",
        "job",
        "cost",
        "budget",
        "setup",
        "version",
    ),
    *("watch", "stats", "open"),
    *("retry", "skip", "replace", "pause", "resume", "extend", "end", "hold", "release", "holds"),
    *("worker", "serve", "token", "dev", "codec-server", "sweep-store", "replay", "reclassify"),
]


async def test_every_command_has_help_with_the_exit_codes() -> None:
    """`durable-llm` lists the commands; --help of each works and says what its statuses mean."""
    assert sorted(get_command(app).commands) == sorted(COMMANDS)
    shown = [CliRunner().invoke(app, [name, "--help"]) for name in COMMANDS]
    assert [end.exit_code for end in shown] == [Exit.OK] * len(COMMANDS)
    asked, bare = await asyncio.gather(run("-h"), run())
    assert (asked.status, bare.status) == (Exit.OK, Exit.USAGE)
    for text in (*(end.output for end in shown), asked.out, bare.out + bare.err):
        assert "Exit codes: 0 done; 1 the call failed" in " ".join(text.split())


async def test_the_page_names_every_command_and_option() -> None:
    """docs/cli.md has a section for each command and mentions each option."""
    page = (ROOT / "docs" / "cli.md").read_text()
    for name, command in get_command(app).commands.items():
        assert f"### {name}\n" in page, name
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert not option.startswith("--") or f"`{option}" in page, (name, option)


async def test_version_completion_and_wrong_usage() -> None:
    """The version in words and as JSON, completion by Typer's own means, and 2 with JSON for what cannot be parsed."""
    completing = {"_DURABLE_LLM_COMPLETE": "complete_bash", "COMP_WORDS": "durable-llm s", "COMP_CWORD": "1"}
    words, data, completed, wrong = await asyncio.gather(
        run("version"), run("version", "--json"), run(**completing), run("list", "--outcome", "great", "--json")
    )
    assert (words.status, words.out) == (Exit.OK, f"{__version__}\n")
    assert data.json == {"version": __version__}
    assert completed.out.split() == ["submit", "show", "stats", "skip", "setup", "serve", "sweep-store"]
    assert (wrong.status, wrong.json["error"]["type"]) == (Exit.USAGE, "UsageError")
    assert "great" in wrong.err


async def test_a_setting_that_cannot_be_used_is_the_callers_mistake() -> None:
    """2 and the variable's name, from the command line and from `python -m workers` alike."""
    variables = {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "soon", "DURABLE_LLM_CODEC_PORT": "any"}
    ends = await asyncio.gather(
        run("worker", **variables), run(program=("-m", "workers"), **variables), run("codec-server", **variables)
    )
    for end, name in zip(ends, ("HEARTBEAT_TIMEOUT_S", "HEARTBEAT_TIMEOUT_S", "CODEC_PORT"), strict=True):
        assert (end.status, f"DURABLE_LLM_{name}" in end.err, "Traceback" in end.err) == (Exit.USAGE, True, False), end


async def test_the_unexpected_is_never_silent() -> None:
    """One line, the traceback, and 70; a key in it is not repeated."""
    key = "sk-proj-4f9Qw7Zx2Lk8Tn3Vb6Rm1Yc5"
    broken = f"import durable_llm.cli.program as p; p._run = lambda _: {{}}['{key}']; p.main(['list', '--json'])"
    end = await run(program=("-c", broken))
    assert end.status == Exit.INTERNAL
    assert end.err.startswith("error: unexpected KeyError: ")
    assert "Traceback" in end.err
    assert json.loads(end.out)["error"]["type"] == "KeyError"
    assert key not in end.out + end.err


async def test_an_absent_server_is_named_by_every_command() -> None:
    """3, the address, and one line: no command waits in silence or for longer than it is told."""
    to = {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
    ask = ("-m", MODEL, "Name a prime.")
    commands = [
        ("call", *ask),
        ("submit", *ask),
        ("result", "x"),
        ("show", "x"),
        ("list",),
        ("cancel", "x"),
        ("setup",),
    ]
    ends = await asyncio.gather(*(run(*command, "--connect-wait", "1s", "--json", **to) for command in commands))
    for end in ends:
        assert end.status == Exit.UNAVAILABLE, end
        assert end.json["error"]["type"] == "DispatcherUnavailableError"
        assert "127.0.0.1:1" in end.err
        assert "Traceback" not in end.err


async def test_an_unusable_profile_is_the_callers_mistake() -> None:
    """Connection settings that cannot be read are 2, as every other wrong word."""
    end = await run("list", "--profile", "nonesuch", "--json", TEMPORAL_CONFIG_FILE=os.devnull)
    assert (end.status, end.json["error"]["type"]) == (Exit.USAGE, "InvalidRequestError")


async def test_a_reader_that_has_gone_is_no_traceback(server_env) -> None:
    """`durable-llm list | head -0`: quiet, with a status of its own."""
    for arguments in (("list",), ("version",)):
        reading, writing = os.pipe()
        os.close(reading)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "durable_llm.cli", *arguments, cwd=ROOT, stdout=writing,
            stderr=asyncio.subprocess.PIPE, env={**os.environ, **server(server_env.client)},
        )  # fmt: skip
        os.close(writing)
        _, err = await process.communicate()
        assert (process.returncode, err) == (Exit.READER_GONE, b"")


async def test_a_caller_pays_nothing_for_the_command_line() -> None:
    """`import durable_llm` loads neither Typer nor Rich nor YAML."""
    program = ("-c", "import sys, durable_llm; print(*{'typer', 'rich', 'yaml', 'durable_llm.cli'} & set(sys.modules))")
    assert (await run(program=program)).out == "\n"


async def test_ctrl_c_while_connecting_is_said() -> None:
    """Before there is a call, too, an interruption is a line, a JSON document and 130."""
    connected = asyncio.Event()
    mute = await asyncio.start_server(lambda *_: connected.set(), "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    async with mute:
        process = await start("list", "--json", "--connect-wait", "30s", TEMPORAL_ADDRESS=f"127.0.0.1:{port}")
        await connected.wait()
        process.send_signal(signal.SIGINT)
        end = await ended(process)
    assert (end.status, end.err) == (Exit.INTERRUPTED, "error: interrupted\n")
    assert end.json["error"]["type"] == "CallInterruptedError"
