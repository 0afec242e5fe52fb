"""Whether a runtime does what the OCI runtime specification says (docs/conformance.md)."""
