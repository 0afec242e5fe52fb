"""The tokens of a template (Go 1.24, text/template/parse/lex.go).

Texts stand outside of `{{ }}`; inside, blanks are tokens, too, since `.A .B` is two fields and `.A.B` one. An error is the last
token, so that the parser, which may find another one before it, reports the first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Token(NamedTuple):
        """`position` in characters from the template's start, `line` from 1."""

        kind: str
        text: str
        position: int
        line: int

else:

    def Token(*fields):  # collections.namedtuple would import more than all the rest
        return fields


KEYWORDS = ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with")
# Kinds that are spelled out by messages as <text>: Go's itemKeyword and what follows it.
SPELLED = (*KEYWORDS, "dot")
_BLANK = " \t\r\n"
_DECIMAL, _HEXADECIMAL = "0123456789_", "0123456789abcdefABCDEF_"
_DIGITS = {"x": _HEXADECIMAL, "o": "01234567_", "b": "01_"}
_SINGLE = {"=": "assign", "|": "pipe", "(": "(", ")": ")"}
_OPEN, _CLOSE = "{{", "}}"


def tokens(text: str) -> list[Token]:
    """All tokens; the last is of the kind "eof" or "error"."""
    return _Lexer(text).run()


class _Failure(Exception):
    pass


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.start = 0
        self.line = 1
        self.found: list[Token] = []

    def run(self) -> list[Token]:
        try:
            while self._text():
                self._action()
            self._emit("eof")
        except _Failure as e:
            self.found.append(Token("error", str(e), self.start, self.line))
        return self.found

    def _emit(self, kind: str) -> None:
        piece = self.text[self.start : self.at]
        self.found.append(Token(kind, piece, self.start, self.line))
        self.line += piece.count("\n")
        self.start = self.at

    def _skip(self, to: int) -> None:
        self.line += self.text.count("\n", self.start, to)
        self.start = self.at = to

    def _text(self) -> bool:
        """The text up to the next action; whether there is one."""
        opened = self.text.find(_OPEN, self.at)
        end = len(self.text) if opened < 0 else opened
        piece = self.text[self.at : end]
        if opened >= 0 and self._trims_left(opened + 2):
            piece = piece.rstrip(_BLANK)
        self.at += len(piece)
        if piece:
            # As in Go, a text's line is the one that it ends in.
            self.line += piece.count("\n")
            self.found.append(Token("text", piece, self.start, self.line))
            self.start = self.at
        self._skip(end)
        return opened >= 0

    def _trims_left(self, at: int) -> bool:
        return self.text[at : at + 1] == "-" and self.text[at + 1 : at + 2] in tuple(_BLANK)

    def _trims_right(self, at: int) -> bool:
        """Whether ` -}}` is at the place."""
        return self.text[at : at + 1] in tuple(_BLANK) and self.text.startswith("-" + _CLOSE, at + 1)

    def _action(self) -> None:
        trim = 2 if self._trims_left(self.at + 2) else 0
        if self.text.startswith("/*", self.at + 2 + trim):
            self._comment(self.at + 2 + trim)
            return
        self.at += 2
        self._emit("{{")
        self._skip(self.at + trim)
        depth = 0
        while True:
            if self._trims_right(self.at) or self.text.startswith(_CLOSE, self.at):
                if depth:
                    raise _Failure("unclosed left paren")
                self._close()
                return
            if not depth and self._peek() == ")":
                raise _Failure("unexpected right paren")
            depth += self._inside()

    def _comment(self, at: int) -> None:
        self._skip(at)
        end = self.text.find("*/", at + 2)
        if end < 0:
            raise _Failure("unclosed comment")
        self._skip(end + 2)
        if not (self._trims_right(self.at) or self.text.startswith(_CLOSE, self.at)):
            raise _Failure("comment ends before closing delimiter")
        self._close(emit=False)

    def _close(self, emit: bool = True) -> None:
        trims = self._trims_right(self.at)
        self._skip(self.at + 2 * trims)
        self.at += 2
        if emit:
            self._emit("}}")
        while trims and self.text[self.at : self.at + 1] in tuple(_BLANK):
            self.at += 1
        self._skip(self.at)

    def _peek(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.at : self.at + 1]

    def _inside(self) -> int:
        """One token of an action; by how much it changes the depth of parentheses."""
        c = self._peek()
        if not c:
            raise _Failure("unclosed action")
        self.at += 1
        if c in _BLANK:
            while self._peek() in tuple(_BLANK) and not self._trims_right(self.at):
                self.at += 1
            self._emit("space")
        elif c in _SINGLE:
            self._emit(_SINGLE[c])
        elif c == ":":
            if self._peek() != "=":
                raise _Failure("expected :=")
            self.at += 1
            self._emit("declare")
        elif c in "\"'":
            self._quoted(c, "string" if c == '"' else "char")
        elif c == "`":
            self._raw()
        elif c == "$" or (c == "." and not ("0" <= (self._peek() or "0") <= "9")):
            self._name("variable" if c == "$" else "field", "variable" if c == "$" else "dot")
        elif c in ".+-" or "0" <= c <= "9":
            self.at -= 1
            self._number()
        elif _is_letter(c):
            self._word()
        elif " " <= c <= "~":
            self._emit("character")
        else:
            raise _Failure(f"unrecognized character in action: {_shown(c)}")
        return (c == "(") - (c == ")")

    def _ends_word(self) -> bool:
        return self._peek() in ("", *_BLANK, *".,|:)(") or self.text.startswith(_CLOSE, self.at)

    def _name(self, kind: str, alone: str) -> None:
        if self._ends_word():
            self._emit(alone)
            return
        self._letters()
        self._emit(kind)

    def _letters(self) -> None:
        while _is_letter(self._peek()):
            self.at += 1
        if not self._ends_word():
            raise _Failure(f"bad character {_shown(self._peek())}")

    def _word(self) -> None:
        self._letters()
        word = self.text[self.start : self.at]
        self._emit(word if word in KEYWORDS else "bool" if word in ("true", "false") else "identifier")

    def _quoted(self, quote: str, kind: str) -> None:
        while (c := self._peek()) != quote:
            self.at += 1
            if c == "\\":
                c = self._peek()
                self.at += 1
            if c in ("", "\n"):
                raise _Failure(f"unterminated {'quoted string' if quote == chr(34) else 'character constant'}")
        self.at += 1
        self._emit(kind)

    def _raw(self) -> None:
        end = self.text.find("`", self.at)
        if end < 0:
            raise _Failure("unterminated raw quoted string")
        self.at = end + 1
        self._emit("raw")

    def _number(self) -> None:
        good = self._scan_number()
        if good and self._peek() in ("+", "-"):
            # Complex numbers (1+2i), which Go has, are none here.
            self._scan_number()
            good = False
        if not good:
            raise _Failure(f'bad number syntax: "{self.text[self.start : self.at]}"')
        self._emit("number")

    def _scan_number(self) -> bool:
        """Whether what is there may be a number; its value is another matter."""
        digits = _DECIMAL
        self._accept("+-")
        if self._accept("0"):
            digits = _DIGITS.get(self._peek().lower(), _DECIMAL)
            if digits is not _DECIMAL:
                self.at += 1
        self._run(digits)
        if self._accept("."):
            self._run(digits)
        exponent = {_DECIMAL: "eE", _HEXADECIMAL: "pP"}.get(digits, "")
        if exponent and self._accept(exponent):
            self._accept("+-")
            self._run(_DECIMAL)
        if _is_letter(self._peek()):
            self.at += 1
            return False
        return True

    def _accept(self, characters: str) -> bool:
        found = bool(self._peek()) and self._peek() in characters
        self.at += found
        return found

    def _run(self, characters: str) -> None:
        while self._accept(characters):
            pass


def _is_letter(c: str) -> bool:
    return c == "_" or c.isalnum()


def _shown(c: str) -> str:
    """Go's %#U; U+FFFFFFFFFFFFFFFF is what it makes of the end."""
    if not c:
        return "U+FFFFFFFFFFFFFFFF"
    return f"U+{ord(c):04X} '{c}'" if c.isprintable() else f"U+{ord(c):04X}"
