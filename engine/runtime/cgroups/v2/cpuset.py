"""cpuset: which processors and memory nodes may be used. An empty cpuset means its parent's on v2: nothing to
inherit.
"""

from __future__ import annotations

from engine.runtime.cgroups.v1.cpuset import settings

__all__ = ["settings"]
