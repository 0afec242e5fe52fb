"""The same command through mini and through Docker."""
