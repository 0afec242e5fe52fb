"""Nothing. Where its bytecode would be, the pack of all modules' is (pack.py)."""
