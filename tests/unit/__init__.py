"""No root and no network are needed here."""
