"""Layers, indexes over them, snapshots, images and volumes: what is kept, and the mounts (as data) that make a root of it."""
