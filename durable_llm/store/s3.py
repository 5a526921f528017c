"""S3, or a service with its protocol, as a store. Needs the extra `s3`.

Credentials come from where boto3 looks: AWS_* variables, profiles, the machine's role.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import boto3  # type: ignore[import-untyped]  # its annotations are a package of their own
from botocore import exceptions  # type: ignore[import-untyped]  # as above
from botocore.config import Config  # type: ignore[import-untyped]  # as above

from durable_llm.store.errors import (
    ContentMissingError,
    StoreError,
    StoreRefusedError,
    StoreSettingError,
    StoreUnavailableError,
)

_LATER: Final = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_TRANSIENT: Final = (
    exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError,
    exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError,
)  # fmt: skip


class S3:
    """Objects of one bucket under one prefix.

    Args:
        bucket: Its name.
        prefix: Prefix of each object's key: "", or with a slash at its end.
        region: The bucket's region. None: as boto3 is configured.
        endpoint_url: Address of another service than AWS.
        profile: A profile of AWS's configuration files. None: as boto3 is configured.

    Raises:
        StoreSettingError: boto3 cannot use these.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, region: str | None = None, endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:  # fmt: skip
        self._bucket = bucket
        self._prefix = prefix
        self.place = f"s3://{bucket}/{prefix}"
        try:
            session = boto3.Session(profile_name=profile, region_name=region)
            self._client = session.client("s3", endpoint_url=endpoint_url, config=_config(endpoint_url))
        except (exceptions.BotoCoreError, ValueError) as error:
            raise StoreSettingError(f"boto3 cannot use these settings: {type(error).__name__}") from None

    def put(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        with self._translated():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)

    def get(self, name: str) -> bytes:
        """See `Driver`."""
        with self._translated():
            try:
                content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            except self._client.exceptions.NoSuchKey:
                raise ContentMissingError(f"{self.place} does not hold {name}") from None
        return content

    def sweep(self, before: datetime) -> int:  # noqa: ARG002  # the driver's signature
        """Refuse: a lifecycle rule of the bucket does it better.

        Raises:
            StoreRefusedError: always.
        """
        raise StoreRefusedError(
            f"{self.place}: give the bucket a lifecycle rule for this prefix; S3 then deletes by itself"
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exceptions.ClientError as error:
            raise self._of_response(error) from None
        except _TRANSIENT as error:
            raise StoreUnavailableError(f"{self.place}: {type(error).__name__}") from None
        except exceptions.BotoCoreError as error:  # missing or incomplete credentials, ...
            raise StoreRefusedError(f"{self.place}: {type(error).__name__}") from None

    def _of_response(self, error: exceptions.ClientError) -> StoreError:
        """The error for a response: its status and code, without its text, which may name accounts and users."""
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        later = status >= 500 or status == 429 or code in _LATER
        kind = StoreUnavailableError if later else StoreRefusedError
        return kind(f"{self.place}: {status} {code}")


def _config(endpoint_url: str | None) -> Config:
    return Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 2},  # the caller retries
        s3={"addressing_style": "path"} if endpoint_url else {},  # an own server has no host name per bucket
        # The name is a checksum already. Not every service knows the checksums that boto3 adds.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
