"""The codec and its keys: payloads are restored, changed ones are errors, and no key is ever shown."""

import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from durable_llm import DecryptionError, InvalidRequestError, data_converter
from durable_llm.encryption.codec import CIPHER, ENCODING, KEY_ID, EncryptionCodec
from durable_llm.encryption.keys import KEYS_VARIABLE, load_keys, parse_keys
from tests.support import ROOT
from tests.support.encryption import key, keys
from workers.settings import WorkerSettings

PLAIN = Payload(metadata={"encoding": b"json/plain", "kind": b"prompt"}, data=b'"Name a prime."')


def codec(*key_ids: str) -> EncryptionCodec:
    """A codec with these keys."""
    return EncryptionCodec(load_keys(keys(*key_ids)))


async def test_what_is_encrypted_comes_back_whole() -> None:
    """Data and metadata of a payload are encrypted and restored together, also for large and empty ones."""
    payloads = [PLAIN, Payload(), Payload(metadata={"encoding": b"binary/plain"}, data=b"\0" * 2_000_000)]
    hidden = await codec("a").encode(payloads)
    assert [payload.metadata["encoding"] for payload in hidden] == [ENCODING] * 3
    assert all(payload.metadata[KEY_ID] == b"a" for payload in hidden)
    assert b"prime" not in hidden[0].SerializeToString()
    assert b"prompt" not in hidden[0].SerializeToString()
    assert await codec("a").decode(hidden) == payloads


async def test_a_payload_grows_by_little() -> None:
    """A prompt at Temporal's limit still fits when it is encrypted."""
    big = Payload(metadata={"encoding": b"json/plain"}, data=b"x" * 1_900_000)
    [hidden] = await codec("a" * 40).encode([big])
    assert hidden.ByteSize() - big.ByteSize() < 200


async def test_the_same_payload_is_never_encrypted_alike() -> None:
    """Each payload has its own nonce, so equal prompts cannot be recognised."""
    hidden = await codec("a").encode([PLAIN] * 100)
    assert len({payload.data[:12] for payload in hidden}) == 100
    assert len({payload.data[12:] for payload in hidden}) == 100


@pytest.mark.parametrize(
    ("metadata", "data"),
    [
        ({}, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ({}, lambda data: bytes([data[0] ^ 1]) + data[1:]),
        ({}, lambda data: data[:20]),
        ({}, lambda data: data[:0]),
        ({KEY_ID: b"b"}, lambda data: data),
        ({"encryption-cipher": b"AES-128-CBC"}, lambda data: data),
    ],
    ids=["tag", "nonce", "cut", "empty", "key id", "cipher"],
)
async def test_what_was_changed_is_refused(metadata: dict, data) -> None:
    """A changed bit, a cut text, or metadata with another key or cipher is an error, never another text."""
    [hidden] = await codec("a", "b").encode([PLAIN])
    changed = Payload(metadata={**hidden.metadata, **metadata}, data=data(hidden.data))
    with pytest.raises(DecryptionError, match="cannot be decrypted"):
        await codec("a", "b").decode([changed])


async def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    """Rotation: add the new key at the end everywhere, put it first everywhere, then drop the old one."""
    [old] = await codec("2026-05").encode([PLAIN])
    [during] = await codec("2026-05", "2026-11").encode([PLAIN])
    [new] = await codec("2026-11", "2026-05").encode([PLAIN])
    assert [payload.metadata[KEY_ID] for payload in (old, during, new)] == [b"2026-05", b"2026-05", b"2026-11"]
    for reader in (codec("2026-05", "2026-11"), codec("2026-11", "2026-05")):
        assert await reader.decode([old, during, new]) == [PLAIN] * 3


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ((), "encrypted with the key 'lost', which this process does not have (it has none)"),
        (("a", "b"), "encrypted with the key 'lost', which this process does not have (it has 'a', 'b')"),
    ],
)
async def test_a_key_that_is_missing_is_named(held: tuple[str, ...], says: str) -> None:
    """The error has the id of the payload's key, the known ids and the variable to set; never a key."""
    hidden = await codec("lost").encode([PLAIN])
    with pytest.raises(DecryptionError) as caught:
        await codec(*held).decode(hidden)
    assert says in caught.value.message
    assert KEYS_VARIABLE in caught.value.message
    assert not any(key(key_id) in caught.value.message for key_id in ("lost", *held))


async def test_another_key_under_the_same_id_is_said() -> None:
    """The error says that the keys under one id differ between two processes."""
    hidden = await codec("a").encode([PLAIN])
    with pytest.raises(DecryptionError, match="the same key under this id"):
        await EncryptionCodec({"a": bytes(32)}).decode(hidden)


async def test_what_is_not_encrypted_is_read_as_it_is() -> None:
    """Encryption is switched on while calls run: their payloads still decode; without keys nothing is encrypted."""
    assert await codec("a").decode([PLAIN]) == [PLAIN]
    assert await codec().encode([PLAIN]) == [PLAIN]
    assert await codec().decode([PLAIN]) == [PLAIN]


async def test_error_texts_are_encrypted_with_their_causes() -> None:
    """Message, stack trace and details of a failure and of its cause are encrypted; types stay readable."""
    converter, failure = data_converter(keys("a")), _failure()
    try:
        raise ApplicationError("429: your prompt said secret", {"text": "secret"}, type="Failed") from failure
    except ApplicationError as error:
        wire = await _wire(converter, error)
    raw = wire.SerializeToString()
    assert b"secret" not in raw
    assert b"test_encryption" not in raw
    assert (wire.message, wire.application_failure_info.type) == ("Encoded failure", "Failed")
    decoded = await converter.decode_failure(wire)
    assert (decoded.message, decoded.details[0]) == ("429: your prompt said secret", {"text": "secret"})
    assert str(decoded.cause) == "ValueError: secret inside"


async def test_error_texts_are_plain_without_keys() -> None:
    """Without keys nothing changes."""
    wire = await _wire(data_converter({}), _failure())
    assert (wire.message, wire.HasField("encoded_attributes")) == ("secret inside", False)


async def _wire(converter, error: BaseException):
    from temporalio.api.failure.v1 import Failure

    failure = Failure()
    await converter.encode_failure(error, failure)
    return failure


def _failure() -> ValueError:
    try:
        raise ValueError("secret inside")
    except ValueError as error:
        return error


# The keys' notation


def test_keys_are_read_from_the_variable_or_from_a_file(tmp_path: Path) -> None:
    """Keys are separated by commas or line breaks; white space is ignored, and the order is kept."""
    both = {"b": keys_bytes("b"), "a": keys_bytes("a")}
    file = tmp_path / "keys"
    file.write_text(f"\n b={key('b')} \n\na={key('a')}\n")
    for environment in (
        keys("b", "a"),
        {KEYS_VARIABLE: f" b = {key('b')} ,, a={key('a')},"},
        {f"{KEYS_VARIABLE}_FILE": str(file)},
    ):
        assert list(load_keys(environment).items()) == list(both.items())
    assert load_keys({}) == load_keys({KEYS_VARIABLE: " ", f"{KEYS_VARIABLE}_FILE": ""}) == {}


def keys_bytes(key_id: str) -> bytes:
    """A key."""
    return parse_keys(f"x={key(key_id)}")["x"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"a={key('a')},b={key('b')[:-8]}", "entry 2 has 27 bytes and needs 32"),
        (f"a={key('a')},a={key('b')}", "entry 2 repeats the id 'a'"),
        ("a=" + "correct horse battery", "entry 1 is not base64"),
        ("a=" + "ä" * 44, "entry 1 is not base64"),
        (key("a"), "entry 1 is not a pair"),
        (key("a").rstrip("="), "entry 1 is not a pair"),
        (f"={key('a')}", "entry 1: an id has at most 40 letters"),
        (f"my key={key('a')}", "entry 1: an id has at most 40 letters"),
        (f"{key('a').rstrip('=')[:41]}={key('b')}", "at most 40"),
    ],
)
def test_a_key_that_cannot_be_used_is_said_and_never_shown(text: str, says: str) -> None:
    """The error gives the entry's position and no part of a key."""
    with pytest.raises(InvalidRequestError) as caught:
        load_keys({KEYS_VARIABLE: text})
    assert caught.value.message.startswith(f"{KEYS_VARIABLE}: ")
    assert says in caught.value.message
    for part in text.replace("=", ",").split(","):
        assert len(part) < 5 or part.strip() not in caught.value.message


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")],
)
def test_a_key_file_that_cannot_be_used_is_said(tmp_path: Path, content: bytes | None, says: str) -> None:
    """A missing or empty file does not switch encryption off."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=says) as caught:
        load_keys({f"{KEYS_VARIABLE}_FILE": str(path)})
    assert f"{KEYS_VARIABLE}_FILE" in caught.value.message


def test_both_variables_are_one_too_many(tmp_path: Path) -> None:
    """It would be a guess which of the two is valid."""
    with pytest.raises(InvalidRequestError, match="both set"):
        load_keys({**keys("a"), f"{KEYS_VARIABLE}_FILE": str(tmp_path)})


def test_settings_do_not_show_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of the settings, or a traceback with them, has no key."""
    monkeypatch.setenv(KEYS_VARIABLE, keys("a")[KEYS_VARIABLE])
    assert key("a") not in repr(WorkerSettings())
    assert key("a") not in f"{data_converter()!r} {vars(data_converter().payload_codec)!r}"


def test_without_keys_cryptography_is_never_imported_and_with_them_its_lack_is_said() -> None:
    """It is an extra that is only needed with keys; the error says what to install."""
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import durable_llm; durable_llm.data_converter({}); print('fine')\n"
        f"durable_llm.data_converter({keys('a')!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "fine\n"
    assert "pip install 'durable-llm[crypto]'" in done.stderr.splitlines()[-1]


def test_the_format_is_what_older_workers_wrote() -> None:
    """Every later version decrypts what is stored today: here, a payload of the first version."""
    stored = Payload(
        metadata={"encoding": ENCODING, "encryption-cipher": CIPHER, KEY_ID: b"2026-11"},
        data=bytes.fromhex(STORED),
    )
    assert EncryptionCodec(load_keys(keys("2026-11")))._decrypted(stored) == PLAIN


STORED = (
    "82537254807a3ff1b8fb7645555bd4288ac612d0ca8a5c31313a2160a68d29d64ac06cd118e00b0e27fe0e739d94ed2da47b"
    "b9b2e0c180d0df88172607f40e05bdb97eea03129fbe0d563a7ebe22defa92d5928d70"
)
