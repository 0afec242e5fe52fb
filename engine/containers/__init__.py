"""Containers: what is asked of them (options, config, bundle), what they are (records), and what is done with them."""
