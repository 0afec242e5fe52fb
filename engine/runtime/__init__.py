"""Runs an OCI bundle: namespaces, mounts, cgroups, seccomp, network. Knows nothing of images or storage."""
