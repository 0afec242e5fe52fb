"""The field's own data types (OCI image and runtime specifications): pure data, no I/O."""
