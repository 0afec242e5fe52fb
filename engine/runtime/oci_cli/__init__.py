"""`mini-runtime`: the OCI runtime's command line, as runc has it (docs/oci-runtime.md)."""
