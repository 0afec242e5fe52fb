"""The tree of a template (text/template/parse/node.go). `str(node)` is how a message shows it: normalized source."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Node:
    """`position` in characters from the template's start."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position


class Text(Node):
    __slots__ = ("text",)

    def __init__(self, position: int, text: str) -> None:
        super().__init__(position)
        self.text = text


class Literal(Node):
    """A bool, number, string or character; `source` as it was written."""

    __slots__ = ("source", "value")

    def __init__(self, position: int, source: str, value: bool | int | float | str) -> None:
        super().__init__(position)
        self.source, self.value = source, value

    def __str__(self) -> str:
        return self.source


class Dot(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "."


class Nil(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "nil"


class Identifier(Node):
    """The name of a function."""

    __slots__ = ("name",)

    def __init__(self, position: int, name: str) -> None:
        super().__init__(position)
        self.name = name

    def __str__(self) -> str:
        return self.name


class Field(Node):
    """`.A.B`, of dot."""

    __slots__ = ("names",)

    def __init__(self, position: int, names: list[str]) -> None:
        super().__init__(position)
        self.names = names

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


class Variable(Node):
    """`$x.A.B`; `name` has the dollar sign."""

    __slots__ = ("name", "names")

    def __init__(self, position: int, name: str, names: list[str]) -> None:
        super().__init__(position)
        self.name, self.names = name, names

    def __str__(self) -> str:
        return ".".join([self.name, *self.names])


class Chain(Node):
    """`(pipeline).A.B`."""

    __slots__ = ("names", "node")

    def __init__(self, position: int, node: Node, names: list[str]) -> None:
        super().__init__(position)
        self.node, self.names = node, names

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return inner + "".join(f".{name}" for name in self.names)


class Command(Node):
    """An operand, or a function or field with its arguments."""

    __slots__ = ("words",)

    def __init__(self, position: int, words: list[Node]) -> None:
        super().__init__(position)
        self.words = words

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, Pipe) else str(word) for word in self.words)


class Pipe(Node):
    """Commands, each with the value of the one before as its last argument; `declared` are the variables it sets."""

    __slots__ = ("commands", "declared", "is_assignment")

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.commands: list[Command] = []
        self.declared: list[str] = []
        self.is_assignment = False

    def __str__(self) -> str:
        sign = " = " if self.is_assignment else " := "
        return (", ".join(self.declared) + sign if self.declared else "") + " | ".join(map(str, self.commands))


class Action(Node):
    """`{{pipeline}}`: its value is printed."""

    __slots__ = ("pipe",)

    def __init__(self, position: int, pipe: Pipe) -> None:
        super().__init__(position)
        self.pipe = pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


class Branch(Node):
    """`if`, `with` or `range` (`word`)."""

    __slots__ = ("body", "otherwise", "pipe", "word")

    def __init__(
        self, position: int, word: str, pipe: Pipe, body: Sequence[Node], otherwise: Sequence[Node] | None
    ) -> None:
        super().__init__(position)
        self.word, self.pipe, self.body, self.otherwise = word, pipe, body, otherwise


class Jump(Node):
    """`break` or `continue` (`word`)."""

    __slots__ = ("word",)

    def __init__(self, position: int, word: str) -> None:
        super().__init__(position)
        self.word = word


class Call(Node):
    """`{{template "name" pipeline}}`, and what `block` leaves at its place."""

    __slots__ = ("name", "pipe", "quoted")

    def __init__(self, position: int, name: str, quoted: str, pipe: Pipe | None) -> None:
        super().__init__(position)
        self.name, self.quoted, self.pipe = name, quoted, pipe

    def __str__(self) -> str:
        return f"{{{{template {self.quoted}{f' {self.pipe}' if self.pipe else ''}}}}}"


class End(Node):
    """`{{end}}` or `{{else}}` (`word`): ends a list of nodes, and is in no tree."""

    __slots__ = ("word",)

    def __init__(self, position: int, word: str) -> None:
        super().__init__(position)
        self.word = word

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"
