"""Resource limits on cgroup v1, v2 and hybrid hosts."""
