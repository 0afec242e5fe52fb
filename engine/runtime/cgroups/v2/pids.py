"""pids: how many tasks may exist at once. The same files and values as on v1."""

from __future__ import annotations

from engine.runtime.cgroups.v1.pids import settings, stats

__all__ = ["settings", "stats"]
