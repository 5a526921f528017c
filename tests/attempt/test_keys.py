"""Which key may go where."""

import pytest

from activities.faults import LocalFaultError
from activities.secrets.key_ring import DUMMY_KEY, SECRET_FILE_BYTES, KeyRing
from activities.secrets.key_settings import parse_hosts, parse_keys
from activities.secrets.providers import looks_like_credential
from durable_llm.contract.facts import LocalFault
from tests.support.canary import Mount

ENVIRONMENT = {
    "OPENAI_API_KEY": "own-openai-value",
    "GEMINI_API_KEY": "own-gemini-value",
    "TEAM_API_KEY": "team-value-1234",
    "TEMPORAL_API_KEY": "temporal-value-12",
    "DURABLE_LLM_X_KEY": "worker-value-123",
    "PATH": "/usr/local/bin",
}
HOSTS = {"llm.internal", "127.0.0.1", "one.port:8443", "[::1]"}


def ring(keys: str = "", secrets_dir=None) -> KeyRing:
    """A ring over ENVIRONMENT with the operator's text `keys`."""
    return KeyRing(ENVIRONMENT, pairs=parse_keys(keys), hosts=HOSTS, secrets_dir=secrets_dir)


ALLOWED = [
    ("", "openai", None, None, None),
    ("", "openai", None, "os.environ/OPENAI_API_KEY", "own-openai-value"),
    ("TEAM_API_KEY=openai", "openai", None, "os.environ/TEAM_API_KEY", "team-value-1234"),
    ("", "openai", "https://llm.internal/v1", None, DUMMY_KEY),
    ("", "openai", "http://127.0.0.1:4000", None, DUMMY_KEY),
    ("", "openai", "https://one.port:8443", None, DUMMY_KEY),
    ("", "openai", "http://[::1]:80/v1", None, DUMMY_KEY),
    ("TEAM_API_KEY=llm.internal", "openai", "https://LLM.internal/v1", "os.environ/TEAM_API_KEY", "team-value-1234"),
    ("OPENAI_API_KEY=127.0.0.1:80", "openai", "http://127.0.0.1", "os.environ/OPENAI_API_KEY", "own-openai-value"),
    ("", "ollama", None, None, None),
]


@pytest.mark.parametrize(("keys", "provider", "api_base", "reference", "expected"), ALLOWED)
def test_a_key_goes_where_it_belongs(keys, provider, api_base, reference, expected):
    """A provider's own variable goes to its own address, other pairs go where listed, an address alone gets a dummy."""
    passage = ring(keys).resolve(provider, api_base, reference)

    assert passage.api_key == expected
    assert expected not in passage.forbidden
    assert "temporal-value-12" in passage.forbidden


REFUSED = [
    ("", "openai", "https://evil.example/v1", None, LocalFault.ADDRESS_NOT_ALLOWED, "DURABLE_LLM_API_BASE_HOSTS"),
    ("", "openai", "https://one.port/v1", None, LocalFault.ADDRESS_NOT_ALLOWED, "one.port"),
    (
        "",
        "openai",
        "http://127.0.0.1",
        "os.environ/OPENAI_API_KEY",
        LocalFault.KEY_NOT_ALLOWED,
        "OPENAI_API_KEY=127.0.0.1",
    ),
    (
        "TEAM_API_KEY=openai",
        "openai",
        "http://127.0.0.1",
        "os.environ/TEAM_API_KEY",
        LocalFault.KEY_NOT_ALLOWED,
        "KEYS",
    ),
    (
        "TEAM_API_KEY=127.0.0.1:1",
        "openai",
        "http://127.0.0.1",
        "os.environ/TEAM_API_KEY",
        LocalFault.KEY_NOT_ALLOWED,
        "KEYS",
    ),
    ("", "openai", None, "os.environ/TEAM_API_KEY", LocalFault.KEY_NOT_ALLOWED, "TEAM_API_KEY=openai"),
    ("", "anthropic", None, "os.environ/OPENAI_API_KEY", LocalFault.KEY_NOT_ALLOWED, "OPENAI_API_KEY=anthropic"),
    ("", "openai", None, "os.environ/TEMPORAL_API_KEY", LocalFault.KEY_NOT_ALLOWED, "own settings"),
    ("", "openai", None, "os.environ/DURABLE_LLM_X_KEY", LocalFault.KEY_NOT_ALLOWED, "own settings"),
    ("", "anthropic", None, None, LocalFault.MISSING_KEY, "ANTHROPIC_API_KEY"),
    ("OTHER_KEY=openai", "openai", None, "os.environ/OTHER_KEY", LocalFault.MISSING_KEY, "OTHER_KEY"),
    ("", "openai", None, "sk-literal-key-1234567", LocalFault.KEY_NOT_ALLOWED, "os.environ/"),
    ("", "openai", None, "secrets/team", LocalFault.KEY_NOT_ALLOWED, "secrets/team=openai"),
    ("secrets/team=openai", "openai", None, "secrets/team", LocalFault.MISSING_KEY, "team"),
]


@pytest.mark.parametrize(("keys", "provider", "api_base", "reference", "fault", "says"), REFUSED)
def test_any_other_pair_is_refused_with_what_to_set(keys, provider, api_base, reference, fault, says):
    """A refusal names the setting to change and never a value."""
    with pytest.raises(LocalFaultError) as refused:
        ring(keys).resolve(provider, api_base, reference)

    assert refused.value.fault is fault
    assert says in str(refused.value)
    assert not any(value in str(refused.value) for value in ENVIRONMENT.values() if value != "/usr/local/bin")


def test_secret_files_are_read_when_asked_for(tmp_path):
    """A rotated secret file takes effect without a restart, and both its values are scrubbed."""
    (tmp_path / "team").write_text("first-file-value\n")
    keys = ring("secrets/team=openai", tmp_path)
    first = keys.resolve("openai", None, "secrets/team").api_key
    (tmp_path / "team").write_text("second-file-value\n")
    second = keys.resolve("openai", None, "secrets/team").api_key

    assert (first, second) == ("first-file-value", "second-file-value")
    assert {first, second} <= keys.secrets()


def test_a_rotation_by_kubernetes_is_heeded_in_files_that_nobody_asked_for_too(tmp_path):
    """What a platform puts there is forbidden elsewhere and scrubbed at once, and what was there stays so."""
    mount = Mount(tmp_path)
    mount.put(team="first-team-value", other="first-other-value")
    keys = ring("secrets/team=openai", tmp_path)
    mount.put(team="second-team-value", other="second-other-value")
    passage = keys.resolve("openai", None, "secrets/team")

    assert passage.api_key == "second-team-value"
    assert {"first-other-value", "second-other-value", "first-team-value"} <= passage.forbidden
    mount.put(team="third-team-value", other="third-other-value")
    assert {"third-team-value", "third-other-value", "first-other-value"} <= keys.secrets()


def test_a_secrets_directory_that_cannot_be_listed_is_no_secrets(tmp_path):
    """A worker without secret files, or with a file in their place, is a worker."""
    (tmp_path / "file").write_text("no directory at all")

    assert KeyRing({}, secrets_dir=tmp_path / "file").secrets() == KeyRing({}, secrets_dir=tmp_path / "none").secrets()


def test_a_large_file_in_the_secrets_directory_is_no_secret(tmp_path):
    """The words of a log that got there are not searched for in every text; a call that names it is told why."""
    (tmp_path / "team").write_text("word-of-a-log-1 " * (SECRET_FILE_BYTES // 16) + "!")
    keys = ring("secrets/team=openai", tmp_path)

    assert not any("word-of-a-log" in secret for secret in keys.secrets())
    with pytest.raises(LocalFaultError, match="file team is missing, empty, no text or over 64 KiB on this worker"):
        keys.resolve("openai", None, "secrets/team")


def test_a_line_break_at_a_variables_end_is_no_part_of_its_key():
    """Platforms put files into variables as they are; the key must not be taken for somebody else's."""
    keys = KeyRing(
        {"TEAM_API_KEY": "team-value-1234\n", "OPENAI_API_KEY": "own-openai-value\r\n"},
        pairs=parse_keys("TEAM_API_KEY=openai"),
    )

    assert keys.resolve("openai", None, "os.environ/TEAM_API_KEY").api_key == "team-value-1234"
    assert keys.resolve("openai", None, None).forbidden == {"team-value-1234"}


def test_secrets_inside_of_values_are_secrets():
    """A document of credentials tells them in pieces, and an address holds a password whatever its variable's name."""
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
    keys = KeyRing({
        "VERTEX_CREDENTIALS": f'{{"private_key": "-----BEGIN PRIVATE KEY-----\\n{line}\\n"}}',
        "DATABASE_URL": "postgres://user:hunter2-hunter2@db/x",
        "HOME": "/home/somebody/with/a/long/name/of/a/directory",
    })  # fmt: skip

    assert {line, "hunter2-hunter2"} <= keys.secrets()
    assert not any("home" in secret for secret in keys.secrets())


def test_a_ring_shows_no_values():
    """Logging a ring or what it resolved prints no key."""
    keys = ring()

    assert "value" not in repr(keys) + repr(keys.resolve("openai", None, "os.environ/OPENAI_API_KEY"))


@pytest.mark.parametrize("text", ["MY_KEY", "MY_KEY=", "=openai", "MY KEY=openai", "TEMPORAL_API_KEY=openai", "A=b c"])
def test_pairs_are_checked_when_a_worker_starts(text):
    """A slip in DURABLE_LLM_KEYS stops the worker with a sentence that names the variable."""
    with pytest.raises(ValueError, match="DURABLE_LLM_KEYS"):
        parse_keys(text)


@pytest.mark.parametrize("text", ["*", "https://host", "host/path", "a b", "*.example.com", "host:port"])
def test_hosts_are_exact(text):
    """DURABLE_LLM_API_BASE_HOSTS takes hosts, no wildcards and no addresses."""
    with pytest.raises(ValueError, match="DURABLE_LLM_API_BASE_HOSTS"):
        parse_hosts(text)


def test_settings_parse_to_pairs_and_hosts():
    """Spaces, empty entries and litellm's prefix do not matter."""
    assert parse_keys(" A_KEY=openai, os.environ/B=Host.x:80,, ") == {("A_KEY", "openai"), ("B", "host.x:80")}
    assert parse_hosts("Llm.Internal, 127.0.0.1:80,") == {"llm.internal", "127.0.0.1:80"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HF_TOKEN", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("TEMPORAL_GRPC_META_AUTHORIZATION", True),
        ("TEMPORAL_TLS_CLIENT_KEY_DATA", True),
        ("X_PASSWORD", True),
        ("PGPASSWORD", True),
        ("KEYBOARD", False),
        ("TOKEN_LIMIT", False),
    ],
)
def test_credentials_are_known_by_their_names(name, expected):
    """The last word of a variable's name says whether it is a credential."""
    assert looks_like_credential(name) is expected
