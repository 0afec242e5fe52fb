"""The system call filter: Docker's default profile, compiled and cached."""
