"""Whether an answer will do: tool parsers, the schema, and validators, run so that none of them can harm a worker."""
