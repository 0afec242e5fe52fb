"""Go's text/template, which `--format` is written in: lexer, parser, execute, functions, printing, values."""
