"""A local S3 server, and a bucket on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "prompts"


@contextmanager
def s3_server(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the server while the block does, with credentials in this process' environment; its address."""
    patch.setenv("AWS_ACCESS_KEY_ID", "testing-id")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def bucket(endpoint: str):
    """The bucket, past the store."""
    made = boto3.resource("s3", endpoint_url=endpoint).Bucket(BUCKET)
    made.create(CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return made
