"""What a container writes, kept: one driver a module, what they share, and how it is read again (docs/logs.md)."""
