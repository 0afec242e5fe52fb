"""Measurements; not collected by pytest."""
