"""Controllers of cgroup v1: each module turns its part of `linux.resources` into (file, value) pairs."""
