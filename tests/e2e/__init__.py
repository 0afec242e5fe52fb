"""`./mini` as a user runs it, in a network namespace of the test session."""
