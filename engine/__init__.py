"""mini: a daemonless container engine for Linux."""
