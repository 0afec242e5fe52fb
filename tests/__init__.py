"""Tests: unit (no root, no network), kernel, e2e (mini as a subprocess), compare (against Docker), bench."""
