"""What the processes use of the other two rooms.

A checkout has `workflows` and `activities` beside `workers`. An installation has all three inside `durable_llm`, so
that no other name is taken in a caller's process. Only the two modules here know both spellings.
"""
