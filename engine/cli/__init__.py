"""The command line: declares commands, parses, prints. The only place that prints or exits."""
