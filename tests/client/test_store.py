"""Stores for large prompts: what holds for every driver, then each driver's own rules."""

import asyncio
import hashlib
import os
import stat
import sys
from datetime import UTC, datetime, timedelta

import pytest

from durable_llm import InvalidRequestError
from durable_llm.store import (
    STORE_VARIABLE,
    ContentCorruptError,
    ContentMissingError,
    StoreRefusedError,
    StoreSettingError,
    StoreUnavailableError,
    open_store,
    retry_while_unavailable,
    store_from_environment,
)
from tests.support.postgres import PASSWORD, USER, installed_postgres
from tests.support.s3 import BUCKET, bucket, s3_server
from workers.dev.ports import free_port

CONTENT = bytes(range(256)) * 4000
NAME = hashlib.sha256(CONTENT).hexdigest()


class Kept:
    """A store, and two ways to change its content directly."""

    def __init__(self, url, *, spoil, age=None):
        self.url = url
        self.store = open_store(url)
        self.spoil = spoil
        self.age = age


@pytest.fixture(scope="module")
def postgres():
    """A running PostgreSQL."""
    with installed_postgres() as server, server.running():
        yield server


@pytest.fixture(scope="module")
def s3():
    """A bucket on a local S3 server, and the server's address."""
    with pytest.MonkeyPatch.context() as patch, s3_server(patch) as endpoint:
        yield bucket(endpoint), endpoint


@pytest.fixture
def directory(tmp_path):
    """A directory as a store."""
    root = tmp_path / "prompts"

    def age(name, days):
        past = datetime.now().timestamp() - days * 86_400
        os.utime(root / name, (past, past))

    return Kept(root.as_uri(), spoil=lambda name: (root / name).write_bytes(b"something else"), age=age)


@pytest.fixture
def in_s3(s3):
    """The bucket as a store."""
    made, endpoint = s3
    return Kept(
        f"s3://{BUCKET}/team/prompts?endpoint_url={endpoint}",
        spoil=lambda name: made.put_object(Key=f"team/prompts/{name}", Body=b"something else"),
    )


@pytest.fixture
def in_postgres(postgres):
    """The database as a store, empty."""
    with postgres.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS durable_llm_prompts")

    def spoil(name):
        with postgres.connect() as connection:
            connection.execute("UPDATE durable_llm_prompts SET content = 'something else' WHERE name = %s", (name,))

    def age(name, days):
        with postgres.connect() as connection:
            aged = "UPDATE durable_llm_prompts SET stored_at = now() - make_interval(days => %s) WHERE name = %s"
            connection.execute(aged, (days, name))

    return Kept(postgres.url, spoil=spoil, age=age)


@pytest.fixture(params=["directory", "in_s3", "in_postgres"])
def kept(request):
    """Each kind of store."""
    return request.getfixturevalue(request.param)


# What every store does


async def test_what_was_put_comes_back_under_its_hash(kept):
    """The name is the content's SHA-256, and another process that opens the same URL finds it."""
    assert await kept.store.put(CONTENT) == NAME
    assert await open_store(kept.url).get(NAME) == CONTENT


async def test_the_same_content_is_kept_once_however_often_it_is_put(kept):
    """Many puts at once work, also while the store is being created."""
    # As clients do it: the local S3 server stumbles over two at once, says 500, and is asked again.
    putting = (
        retry_while_unavailable(lambda: open_store(kept.url).put(CONTENT), on_failure=lambda _: None) for _ in range(6)
    )
    names = await asyncio.gather(*putting)
    assert set(names) == {NAME}
    assert await kept.store.get(NAME) == CONTENT


async def test_what_was_never_put_is_missing(kept):
    """A name without content is a typed error, in an empty store too."""
    absent = hashlib.sha256(b"never put").hexdigest()
    with pytest.raises(ContentMissingError, match=absent):
        await kept.store.get(absent)
    await kept.store.put(CONTENT)
    with pytest.raises(ContentMissingError, match=absent):
        await kept.store.get(absent)


@pytest.mark.parametrize("name", ["", "../secrets", f"../{NAME}", NAME.upper(), NAME[:-1], f"{NAME}\n", f"/{NAME}"])
async def test_a_name_is_a_hash_and_nothing_else(kept, name):
    """A name that is not a hash is never looked up, so no name leads out of the store."""
    with pytest.raises(ContentMissingError, match="64 hexadecimal digits"):
        await kept.store.get(name)


async def test_exchanged_content_is_noticed_and_mended_by_putting_it_again(kept):
    """Changed or cut content is never returned; the next put repairs it."""
    await kept.store.put(CONTENT)
    kept.spoil(NAME)
    with pytest.raises(ContentCorruptError, match=NAME):
        await kept.store.get(NAME)
    await kept.store.put(CONTENT)
    assert await kept.store.get(NAME) == CONTENT


async def test_a_sweep_deletes_what_is_old_and_a_put_makes_new(kept):
    """Age counts from the last put, so prompts in use stay."""
    if kept.age is None:
        with pytest.raises(StoreRefusedError, match="lifecycle rule"):
            await kept.store.sweep(datetime.now(UTC))
        return
    old, renewed, new = [await kept.store.put(text) for text in (b"old", b"renewed", b"new")]
    kept.age(old, 40)
    kept.age(renewed, 40)
    await kept.store.put(b"renewed")
    assert await kept.store.sweep(datetime.now(UTC) - timedelta(days=30)) == 1
    with pytest.raises(ContentMissingError):
        await kept.store.get(old)
    assert [await kept.store.get(name) for name in (renewed, new)] == [b"renewed", b"new"]


async def test_the_place_is_shown_without_what_only_the_setting_says(kept):
    """Errors and logs name the store without its options, which may say where passwords are."""
    assert "?" not in kept.store.place
    assert kept.url.startswith(kept.store.place.rstrip("/"))


# Directories


async def test_files_are_for_their_owner_alone_and_no_draft_stays(directory, tmp_path):
    """Directory 0700, files 0600, and nothing but the content under its name."""
    await directory.store.put(CONTENT)
    files = list((tmp_path / "prompts").iterdir())
    assert [path.name for path in files] == [NAME]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700


async def test_a_sweep_takes_old_drafts_and_leaves_what_is_not_ours(directory, tmp_path):
    """Files of a killed process are deleted; other files stay."""
    await directory.store.put(CONTENT)
    for name in (".draft-abc", "README"):
        (tmp_path / "prompts" / name).write_text("?")
        directory.age(name, 40)
    assert await directory.store.sweep(datetime.now(UTC) - timedelta(days=30)) == 1
    assert {path.name for path in (tmp_path / "prompts").iterdir()} == {NAME, "README"}


async def test_a_place_that_is_no_directory_is_refused(tmp_path):
    """A file in place of the directory is the operator's to fix; trying again would not help."""
    (tmp_path / "taken").write_text("a file")
    store = open_store((tmp_path / "taken").as_uri())
    for transfer in (store.put(CONTENT), store.get(NAME)):
        with pytest.raises(StoreRefusedError, match="taken"):
            await transfer


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
async def test_a_full_disk_may_have_room_later(tmp_path):
    """Disk errors are retried, and no partial file is left."""
    import resource

    store = open_store((tmp_path / "prompts").as_uri())
    await store.put(b"small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreUnavailableError, match="File too large"):
            await store.put(CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list((tmp_path / "prompts").iterdir())) == 1


# S3


async def test_objects_lie_under_the_prefix(in_s3, s3):
    """Only keys under the URL's prefix are touched."""
    await in_s3.store.put(CONTENT)
    assert {found.key for found in s3[0].objects.all()} >= {f"team/prompts/{NAME}"}
    assert all(found.key.startswith("team/prompts/") for found in s3[0].objects.all())


async def test_a_missing_bucket_is_refused(s3):
    """The operator must create it, so the error comes at once."""
    with pytest.raises(StoreRefusedError, match="404 NoSuchBucket"):
        await open_store(f"s3://nowhere?endpoint_url={s3[1]}").put(CONTENT)


async def test_missing_credentials_are_refused(s3, monkeypatch, tmp_path):
    """Without credentials boto3 refuses before it sends anything, and so does the store."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreRefusedError, match="NoCredentialsError"):
        await open_store(f"s3://{BUCKET}?endpoint_url={s3[1]}").put(CONTENT)


async def test_credentials_may_come_from_a_profile_of_their_own(s3, monkeypatch, tmp_path):
    """The store can have other rights than the worker's Bedrock models."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[store]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    url = f"s3://{BUCKET}?endpoint_url={s3[1]}&profile="
    assert await open_store(f"{url}store").put(CONTENT) == NAME
    with pytest.raises(StoreSettingError, match="ProfileNotFound"):
        open_store(f"{url}nobody")


async def test_an_absent_s3_may_come_back(s3):
    """A refused connection is retried."""
    with pytest.raises(StoreUnavailableError, match="EndpointConnectionError"):
        await open_store(f"s3://{BUCKET}?endpoint_url=http://127.0.0.1:{free_port()}").put(CONTENT)


# PostgreSQL


@pytest.mark.parametrize("written", ["another", ""])
async def test_a_wrong_password_is_refused_and_never_shown(postgres, tmp_path, written):
    """Waiting does not help with a wrong password; the error names the user and the store."""
    (tmp_path / "password").write_text(written)
    url = f"postgresql://{USER}@127.0.0.1:{postgres.port}/postgres?password_file={tmp_path / 'password'}"
    with pytest.raises(StoreRefusedError, match=f"{USER}@127.0.0.1") as raised:
        await open_store(url).put(CONTENT)
    assert not written or written not in str(raised.value)


async def test_the_password_may_come_from_the_environment(postgres, monkeypatch):
    """Without a named file libpq looks in its usual places."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert await open_store(f"postgres://{USER}@127.0.0.1:{postgres.port}/postgres").put(CONTENT) == NAME


async def test_a_password_file_that_cannot_be_read_is_refused(postgres):
    """The error names the file."""
    url = f"postgresql://{USER}@127.0.0.1:{postgres.port}/postgres?password_file=/nowhere/password"
    with pytest.raises(StoreRefusedError, match="/nowhere/password cannot be read"):
        await open_store(url).put(CONTENT)


async def test_a_role_that_may_not_make_the_table_is_told_so_and_may_use_it_once_it_is_there(in_postgres, postgres):
    """Creating the table takes a right that the role does not need later."""
    with postgres.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    guest = open_store(postgres.url.replace(f"{USER}@", "guest@"))
    with pytest.raises(StoreRefusedError, match="permission denied"):
        await guest.put(CONTENT)
    await in_postgres.store.put(b"makes the table")
    with postgres.connect() as connection:
        connection.execute("GRANT SELECT, INSERT, UPDATE ON durable_llm_prompts TO guest")
    assert await guest.put(CONTENT) == NAME
    with postgres.connect() as connection:
        connection.execute("DROP OWNED BY guest; DROP ROLE guest")


async def test_an_absent_database_may_come_back():
    """A missing server is retried, and works once it is there."""
    told = []
    with installed_postgres() as server:
        store = open_store(server.url)
        with pytest.raises(StoreUnavailableError, match="refused"):
            await store.put(CONTENT)
        waiting = asyncio.create_task(retry_while_unavailable(lambda: store.put(CONTENT), on_failure=told.append))
        while not told:
            await asyncio.sleep(0.01)
        with server.running():
            assert await waiting == NAME


# The setting


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("prompts", "expected file:///DIRECTORY, s3://BUCKET/PREFIX or postgresql://"),
        ("redis://localhost", "expected file:///DIRECTORY"),
        ("postgresql://[::1", "expected file:///DIRECTORY"),
        ("postgresql://host:port/db", "expected file:///DIRECTORY"),
        ("file://prompts", "an absolute path"),
        ("file:///", "not the root"),
        ("file:///srv/../etc", r"without '\.\.'"),
        ("file:///srv/prompts?mode=0777", "nothing after it"),
        ("s3:///prefix", "expected s3://BUCKET/PREFIX"),
        ("s3://id:canary-secret@bucket", "credentials do not belong"),
        ("s3://bucket?acl=public-read", "unknown acl; known are region, endpoint_url, profile"),
        ("s3://bucket?endpoint_url=localhost:9000", "endpoint_url: expected http"),
        ("s3://bucket?endpoint_url=http://id:canary-secret@host", "without credentials"),
        ("postgresql://me:canary-secret@host/db", r"write \?password_file=/PATH"),
        ("postgresql://me@host/db?password=canary-secret", r"write \?password_file=/PATH"),
        ("postgresql://me@host/db?sslpassword=canary-secret", "a password does not belong in the URL"),
        ("postgresql://me@host/db?password_file=relative", "an absolute path"),
        ("postgresql://me@host/db?colour=blue", "cannot use the URL"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_to_write(url, says):
    """A mistake in the URL is an error before anything is connected, and a password in it is not repeated."""
    with pytest.raises(StoreSettingError, match=says) as raised:
        open_store(url)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket", "s3"), ("postgresql://host/db", "postgres")])
def test_a_missing_package_is_named_with_its_extra(url, extra, monkeypatch):
    """Only the driver of the URL's kind is loaded; the error for a missing one says what to install."""
    monkeypatch.setattr(sys, "meta_path", [])
    for name in ("boto3", "psycopg"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(StoreSettingError, match=rf"durable-llm\[{extra}\]"):
        open_store(url)


async def test_a_transfer_that_hangs_keeps_no_program_from_its_end():
    """A caller that gives up returns at once, even if the file system hangs."""
    program = (
        "import asyncio, time; from datetime import UTC, datetime; from types import SimpleNamespace;"
        "from durable_llm.store.store import Store;"
        "hangs = Store(SimpleNamespace(place='away', sweep=lambda before: time.sleep(600)));"
        "sweep = hangs.sweep(datetime.now(UTC));"
        "\ntry: asyncio.run(asyncio.wait_for(sweep, 0.1))\nexcept TimeoutError: print('given up')"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, printed) == (0, b"given up\n")


def test_the_setting_is_read_from_the_environment():
    """Without the variable there is no store; the error for a wrong value names it."""
    assert store_from_environment({}) is None
    assert store_from_environment({STORE_VARIABLE: " "}) is None
    assert store_from_environment({STORE_VARIABLE: "file:///srv/prompts"}).place == "file:///srv/prompts"
    with pytest.raises(InvalidRequestError, match=f"{STORE_VARIABLE}: expected file"):
        store_from_environment({STORE_VARIABLE: "somewhere"})
