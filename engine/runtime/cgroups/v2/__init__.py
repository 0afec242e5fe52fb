"""Controllers of cgroup v2: each module turns its part of `linux.resources` into (file, value) pairs."""
