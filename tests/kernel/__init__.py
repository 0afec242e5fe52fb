"""One room each, as root, on the real kernel."""
