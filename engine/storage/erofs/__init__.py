"""Writes the EROFS image ("index") over an image's layers; the kernel reads it (docs/storage.md draws the format)."""
