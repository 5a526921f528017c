"""Where text goes while it is written: outside of Temporal's history, readable by position, gone after a while."""

from durable_llm.streams.channel import Channel, Streams, stream_name
from durable_llm.streams.urls import STREAMS_VARIABLE, open_streams, streams_from_environment

__all__ = ["STREAMS_VARIABLE", "Channel", "Streams", "open_streams", "stream_name", "streams_from_environment"]
