"""References, registries, manifests and the pull: how an image arrives."""
