"""Programs of published clients that know nothing of this project: a base URL, a key, and the name of a chain.

Each prints what it saw as JSON. FRONT is the front's address.
"""
