"""OpenAI's files and batches: many requests in one file, each a durable call, any provider.

A batch is a workflow whose one activity runs on any front. If its front dies, another one goes on with the same calls.
"""
