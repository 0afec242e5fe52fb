"""mini-runtime driven by the engines that drive an OCI runtime: Docker, Podman, containerd."""
