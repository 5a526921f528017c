"""Where text goes while it is written: readable by position, gone after a while."""

from durable_llm.streams.channel import KEPT, Channel, Place, Streams
from durable_llm.streams.urls import STREAMS_VARIABLE, open_streams, streams_from_environment

__all__ = ["KEPT", "STREAMS_VARIABLE", "Channel", "Place", "Streams", "open_streams", "streams_from_environment"]
