"""What a registry server answers where it cannot do what was asked."""

from __future__ import annotations


class ApiError(Exception):
    """An answer of the specification's error format: `code` is one of its table of error codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
