"""From a template's text to its tree (Go 1.24, text/template/parse/parse.go), with Go's words for what is wrong.

template: NAME:LINE: unexpected "}" in operand
"""

from __future__ import annotations

from engine.cli.gotemplate import functions, literals, nodes
from engine.cli.gotemplate.lexer import SPELLED, tokens
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from engine.cli.gotemplate.lexer import Token

_OPERANDS = ("bool", "char", "dot", "field", "identifier", "number", "nil", "raw", "string", "variable", "(")
_NESTED_TOO_DEEP = "nested too deeply"
_LONGEST_SHOWN = 10


class Template:
    """What was parsed: the templates by name; "" is the whole text, the others were defined in it."""

    __slots__ = ("name", "text", "trees")

    def __init__(self, text: str, name: str = "") -> None:
        """UsageError for what is no template. `name` is in all its messages."""
        self.text, self.name = text, name
        self.trees: dict[str, Sequence[nodes.Node]] = {}
        parser = _Parser(self)
        try:
            parser.parse()
        except RecursionError:
            parser.fail(_NESTED_TOO_DEEP)


def quote(text: str) -> str:
    """Go's %q."""
    from engine.cli.formats import quoted

    return quoted(text)


class _Parser:
    def __init__(self, template: Template) -> None:
        self._template = template
        self._tokens = tokens(template.text)
        self._at = 0
        self._variables = ["$"]
        self._ranges = 0
        self._action_line = 0

    # the tokens

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if self._at < len(self._tokens) - 1:
            self._at += 1
        return token

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _skip_blanks(self) -> Token:
        """The next token that is no space, still to be read."""
        while self._peek()[0] == "space":
            self._at += 1
        return self._peek()

    def _next_word(self) -> Token:
        self._skip_blanks()
        return self._next()

    def _expect(self, kinds: Sequence[str], context: str) -> Token:
        token = self._next_word()
        if token[0] not in kinds:
            self._unexpected(token, context)
        return token

    def fail(self, message: str) -> NoReturn:
        line = self._tokens[max(0, self._at - 1)][3]
        raise UsageError(f"template: {self._template.name}:{line}: {message}")

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        kind, text, _, line = token
        if kind == "error":
            where = ""
            if self._action_line and self._action_line != line:
                where = f" in action started at {self._template.name}:{self._action_line}"
                if text.endswith(" action"):
                    where = where.removeprefix(" in action")
            self._at = len(self._tokens)
            self.fail(text + where)
        self.fail(f"unexpected {_shown(token)} in {context}")

    # lists of nodes

    def parse(self) -> None:
        body: list[nodes.Node] = []
        while self._peek()[0] != "eof":
            node = self._definition() or self._text_or_action()
            if isinstance(node, nodes.End):
                self.fail(f"unexpected {node}")
            if not isinstance(node, _Defined):
                body.append(node)
        self._template.trees[self._template.name] = body

    def _definition(self) -> nodes.Node | None:
        """`{{define "name"}}…{{end}}`, which stands at the top only."""
        begin = self._at
        if self._next()[0] != "{{" or self._next_word()[0] != "define":
            self._at = begin
            return None
        name = self._unquoted(self._expect(("string", "raw"), "define clause"))
        self._expect(("}}",), "define clause")
        self._own_tree(name, "define clause")
        return _Defined(0)

    def _own_tree(self, name: str, context: str) -> None:
        """The body of a template of its own: it sees none of the variables around it."""
        outer = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        body, end = self._list()
        if end.word != "end":
            self.fail(f"unexpected {end} in {context}")
        self._variables, self._ranges = outer
        if _is_empty(self._template.trees.get(name, ())):
            self._template.trees[name] = body
        elif not _is_empty(body):
            self.fail(f"template: multiple definition of template {quote(name)}")

    def _list(self) -> tuple[list[nodes.Node], nodes.End]:
        found: list[nodes.Node] = []
        while self._skip_blanks()[0] != "eof":
            node = self._text_or_action()
            if isinstance(node, nodes.End):
                return found, node
            found.append(node)
        self._at = len(self._tokens)
        self.fail("unexpected EOF")

    def _text_or_action(self) -> nodes.Node:
        token = self._next_word()
        if token[0] == "text":
            return nodes.Text(token[2], token[1])
        if token[0] != "{{":
            self._unexpected(token, "input")
        self._action_line = token[3]
        node = self._action()
        self._action_line = 0
        return node

    def _action(self) -> nodes.Node:
        token = self._skip_blanks()
        word = token[0]
        if word in ("if", "with", "range"):
            self._next()
            return self._branch(token[2], word)
        if word in ("break", "continue"):
            self._next()
            self._expect(("}}",), f"{{{{{word}}}}}")
            if not self._ranges:
                self.fail(f"{{{{{word}}}}} outside {{{{range}}}}")
            return nodes.Jump(token[2], word)
        if word == "end":
            self._next()
            return nodes.End(self._expect(("}}",), "end")[2], word)
        if word == "else":
            self._next()
            # `else if` is an if within the else
            following = self._skip_blanks()
            if following[0] not in ("if", "with"):
                self._expect(("}}",), "else")
            return nodes.End(following[2], word)
        if word in ("template", "block"):
            self._next()
            return self._call(word)
        return nodes.Action(token[2], self._pipeline("command", "}}"))

    def _branch(self, position: int, word: str) -> nodes.Branch:
        """What follows `if`, `with` or `range`, to its `end`."""
        known = len(self._variables)
        pipe = self._pipeline(word, "}}")
        self._ranges += word == "range"
        body, end = self._list()
        self._ranges -= word == "range"
        otherwise: list[nodes.Node] | None = None
        if end.word == "else":
            if word != "range" and self._peek()[0] == word:
                self._next()
                otherwise = [self._branch(end.position, word)]
            else:
                otherwise, end = self._list()
                if end.word != "end":
                    self.fail(f"expected end; found {end}")
        del self._variables[known:]
        return nodes.Branch(position, word, pipe, body, otherwise)

    def _call(self, word: str) -> nodes.Call:
        context = f"{word} clause"
        token = self._next_word()
        if token[0] not in ("string", "raw"):
            self._unexpected(token, context)
        name = self._unquoted(token)
        pipe = None
        if word == "block" or self._skip_blanks()[0] != "}}":
            pipe = self._pipeline(context, "}}")
        else:
            self._next()
        if word == "block":
            self._own_tree(name, context)
        return nodes.Call(token[2], name, quote(name), pipe)

    # pipelines

    def _pipeline(self, context: str, end: str) -> nodes.Pipe:
        pipe = nodes.Pipe(self._skip_blanks()[2])
        self._declarations(pipe, context)
        while True:
            token = self._skip_blanks()
            if token[0] == end:
                self._next()
                self._check(pipe, context)
                return pipe
            if token[0] not in _OPERANDS:
                self._unexpected(self._next(), context)
            pipe.commands.append(self._command())

    def _declarations(self, pipe: nodes.Pipe, context: str) -> None:
        """`$x :=`, `$x =`, and of `range` `$i, $x :=`."""
        while self._skip_blanks()[0] == "variable":
            begin = self._at
            name = self._next()[1]
            token = self._skip_blanks()
            if token[0] in ("assign", "declare"):
                pipe.is_assignment = token[0] == "assign"
                self._next()
                pipe.declared.append(name)
                self._variables.append(name)
                return
            if token[:2] != ("character", ","):
                self._at = begin
                return
            self._next()
            pipe.declared.append(name)
            self._variables.append(name)
            if context != "range" or len(pipe.declared) > 1:
                self.fail(f"too many declarations in {context}")
            if self._skip_blanks()[0] not in ("variable", "}}", ")"):
                self.fail("range can only initialize variables")

    def _check(self, pipe: nodes.Pipe, context: str) -> None:
        if not pipe.commands:
            self.fail(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.words[0], nodes.Literal | nodes.Dot | nodes.Nil):
                self.fail(f"non executable command in pipeline stage {stage}")

    def _command(self) -> nodes.Command:
        """Operands with blanks between them, to a pipe (which is read) or an end (which is not)."""
        command = nodes.Command(self._skip_blanks()[2], [])
        while True:
            self._skip_blanks()
            if operand := self._operand():
                command.words.append(operand)
            token = self._peek()
            if token[0] == "space":
                continue
            if token[0] not in ("}}", ")"):
                self._next()
                if token[0] != "pipe":
                    self._unexpected(token, "operand")
            break
        if not command.words:
            self.fail("empty command")
        return command

    def _operand(self) -> nodes.Node | None:
        node = self._term()
        if not node or self._peek()[0] != "field":
            return node
        position, names = self._peek()[2], []
        while self._peek()[0] == "field":
            names.append(self._next()[1][1:])
        if isinstance(node, nodes.Field):
            return nodes.Field(position, node.names + names)
        if isinstance(node, nodes.Variable):
            return nodes.Variable(position, node.name, node.names + names)
        if isinstance(node, nodes.Literal | nodes.Nil | nodes.Dot):
            self.fail(f"unexpected . after term {quote(str(node))}")
        return nodes.Chain(position, node, names)

    def _term(self) -> nodes.Node | None:
        kind, text, position, _ = token = self._peek()
        if kind not in _OPERANDS:
            return None
        self._next()
        if kind == "identifier":
            if text not in functions.NAMES:
                self.fail(f"function {quote(text)} not defined")
            return nodes.Identifier(position, text)
        if kind == "variable":
            if text not in self._variables:
                self.fail(f"undefined variable {quote(text)}")
            return nodes.Variable(position, text, [])
        if kind == "(":
            return self._pipeline("parenthesized pipeline", ")")
        if kind in ("dot", "nil"):
            return (nodes.Dot if kind == "dot" else nodes.Nil)(position)
        if kind == "field":
            return nodes.Field(position, [text[1:]])
        if kind == "bool":
            return nodes.Literal(position, text, text == "true")
        if kind in ("number", "char"):
            try:
                return nodes.Literal(position, text, (literals.character if kind == "char" else literals.number)(text))
            except ValueError as e:
                self.fail(str(e))
        return nodes.Literal(position, text, self._unquoted(token))

    def _unquoted(self, token: Token) -> str:
        try:
            return literals.unquote(token[1])
        except ValueError:
            self.fail("invalid syntax")


class _Defined(nodes.Node):
    """Where a definition stood, of which nothing is left."""

    __slots__ = ()


def _is_empty(body: Sequence[nodes.Node]) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in body)


def _shown(token: Token) -> str:
    kind, text, _, _ = token
    if kind == "eof":
        return "EOF"
    if kind in SPELLED:
        return f"<{text}>"
    return quote(text[:_LONGEST_SHOWN]) + "..." if len(text) > _LONGEST_SHOWN else quote(text)
