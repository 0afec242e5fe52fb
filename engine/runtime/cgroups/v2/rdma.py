"""rdma: handles and objects of InfiniBand adapters. The same files and values as on v1."""

from __future__ import annotations

from engine.runtime.cgroups.v1.rdma import settings, stats

__all__ = ["settings", "stats"]
