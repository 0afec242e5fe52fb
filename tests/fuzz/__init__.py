"""Fuzzing of every parser that reads a stranger's bytes: no exception but our own, no endless loop, no unbounded memory.

Seconds in CI. For hours by hand, as many examples a test as one likes (about a thousand take a second):

    MINI_FUZZ_EXAMPLES=10000000 scripts/test tests/fuzz
"""
