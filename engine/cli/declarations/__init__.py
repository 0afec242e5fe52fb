"""What `mini` accepts, declared with Typer: one module a group of commands. Nothing here runs a command."""
