"""Executing a template on a value (Go 1.24, text/template/exec.go), with Go's words for what goes wrong:

template: NAME:LINE:COLUMN: executing "NAME" at <.Foo>: can't evaluate field Foo in type *container.State
"""

from __future__ import annotations

from engine.cli.gotemplate import nodes, printing
from engine.cli.gotemplate.functions import FUNCTIONS, indirect
from engine.cli.gotemplate.literals import LARGEST
from engine.cli.gotemplate.parser import quote
from engine.cli.gotemplate.values import MISSING, Int, Nil, Pointer, String, Struct, is_true, length, type_of
from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, NoReturn

    from engine.cli.gotemplate.functions import Function
    from engine.cli.gotemplate.parser import Template

_ABSENT = object()  # no value comes from the command before
_INTERFACE = "interface {}"


def execute(
    template: Template,
    value: Any,
    missing_is_error: bool = False,
    functions: Mapping[str, Function] = FUNCTIONS,
    out: list[str] | None = None,
) -> str:
    """The text for the value. UsageError where the template asks for what the value does not have.

    `out` has the pieces of the text, also those that were made before an error.
    """
    run = _Execution(template, value, missing_is_error, functions, [] if out is None else out)
    try:
        run.walk(value, template.trees[template.name])
    except RecursionError:
        run.fail("exceeded maximum template depth")
    return "".join(run.out)


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Execution:
    def __init__(
        self,
        template: Template,
        value: Any,
        missing_is_error: bool,
        functions: Mapping[str, Function],
        out: list[str],
    ) -> None:
        self._template, self._missing_is_error, self._functions = template, missing_is_error, functions
        self._name = template.name
        self._node: nodes.Node | None = None
        self._variables: list[tuple[str, Any]] = [("$", value)]
        self.out = out

    def fail(self, message: str) -> NoReturn:
        where = self._template.name
        if self._node is not None:
            before = self._template.text[: self._node.position]
            column = length(before[before.rfind("\n") + 1 :])
            where += f":{before.count(chr(10)) + 1}:{column}: executing {quote(self._name)} at <{self._node}>"
        raise UsageError(f"template: {where}: {message}")

    # nodes

    def walk(self, dot: Any, body: Iterable[nodes.Node]) -> None:
        for node in body:
            if isinstance(node, nodes.Text):
                self.out.append(node.text)
            elif isinstance(node, nodes.Action):
                value = self._pipe(dot, node.pipe)
                if not node.pipe.declared:
                    self.out.append(_printed(value))
            elif isinstance(node, nodes.Branch):
                known = len(self._variables)
                (self._range if node.word == "range" else self._if_or_with)(dot, node)
                del self._variables[known:]
            elif isinstance(node, nodes.Call):
                self._call_template(dot, node)
            elif isinstance(node, nodes.Jump):
                raise _Break if node.word == "break" else _Continue

    def _if_or_with(self, dot: Any, node: nodes.Branch) -> None:
        value = self._pipe(dot, node.pipe)
        if is_true(value):
            self.walk(value if node.word == "with" else dot, node.body)
        elif node.otherwise is not None:
            self.walk(dot, node.otherwise)

    def _range(self, dot: Any, node: nodes.Branch) -> None:
        declared = node.pipe.declared
        items = self._items(indirect(self._pipe(dot, node.pipe)), len(declared))
        known = len(self._variables)
        any_item = False
        for index, item in items:
            any_item = True
            values = [item] if len(declared) < 2 else [index, item]
            if node.pipe.is_assignment:
                for name, value in zip(declared, values, strict=False):
                    self._assign(name, value)
            else:
                # The pipeline has pushed them already, with its own value.
                first = known - len(declared)
                self._variables[first:known] = list(zip(declared, values, strict=False))
            try:
                self.walk(item, node.body)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del self._variables[known:]
        if not any_item and node.otherwise is not None:
            self.walk(dot, node.otherwise)

    def _items(self, value: Any, variables: int) -> Iterable[tuple[Any, Any]]:
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if variables > 1:
                self.fail(f"can't use {value} to iterate over more than one variable")
            return ((n, n) for n in range(value))
        if value is MISSING or value is None:
            return ()
        self.fail(f"range can't iterate over {printing.text_of(value)}")

    def _call_template(self, dot: Any, node: nodes.Call) -> None:
        self._node = node
        body = self._template.trees.get(node.name)
        if body is None:
            self.fail(f"template {node.quoted} not defined")
        value = self._pipe(dot, node.pipe) if node.pipe else MISSING
        outer = self._variables, self._name
        self._variables, self._name = [("$", value)], node.name
        self.walk(value, body)
        self._variables, self._name = outer

    # pipelines

    def _pipe(self, dot: Any, pipe: nodes.Pipe) -> Any:
        self._node = pipe
        value: Any = _ABSENT
        for command in pipe.commands:
            value = self._command(dot, command, value)
            if value is None:
                value = MISSING
        for name in pipe.declared:
            if pipe.is_assignment:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: Any) -> None:
        for at in range(len(self._variables) - 1, -1, -1):
            if self._variables[at][0] == name:
                self._variables[at] = (name, value)
                return
        self.fail(f"undefined variable: {name}")

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        self.fail(f"undefined variable: {name}")

    def _command(self, dot: Any, command: nodes.Command, final: Any) -> Any:
        first, arguments = command.words[0], command.words[1:]
        if isinstance(first, nodes.Identifier):
            return self._function(dot, first, command, arguments, final)
        if isinstance(first, nodes.Field | nodes.Chain | nodes.Variable):
            return self._fields(dot, first, arguments, final)
        if isinstance(first, nodes.Pipe):
            self._refuse_arguments(first, arguments, final)
            return self._pipe(dot, first)
        self._node = first
        self._refuse_arguments(first, arguments, final)
        if isinstance(first, nodes.Nil):
            self.fail("nil is not a command")
        return self._constant(first) if isinstance(first, nodes.Literal) else dot

    def _refuse_arguments(self, word: nodes.Node, arguments: Sequence[nodes.Node], final: Any) -> None:
        if arguments or final is not _ABSENT:
            self.fail(f"can't give argument to non-function {word}")

    # fields

    def _fields(
        self, dot: Any, node: nodes.Field | nodes.Chain | nodes.Variable, arguments: Sequence[nodes.Node], final: Any
    ) -> Any:
        self._node = node
        receiver = dot
        if isinstance(node, nodes.Variable):
            receiver = self._variable(node.name)
            if not node.names:
                self._refuse_arguments(node, arguments, final)
                return receiver
        elif isinstance(node, nodes.Chain):
            if isinstance(node.node, nodes.Nil):
                self.fail(f"indirection through explicit nil in {node}")
            receiver = self._operand(dot, node.node)
        # what comes from a map of interfaces is one for a message
        is_interface = False
        last = len(node.names) - 1
        for at, name in enumerate(node.names):
            now, piped = (arguments, final) if at == last else ((), _ABSENT)
            found = self._field(dot, name, node, now, piped, receiver, is_interface)
            is_interface = type(receiver) is dict
            receiver = found
        return receiver

    def _field(
        self,
        dot: Any,
        name: str,
        node: nodes.Node,
        arguments: Sequence[nodes.Node],
        final: Any,
        receiver: Any,
        is_interface: bool,
    ) -> Any:
        if receiver is MISSING:
            if self._missing_is_error:
                self.fail(f"nil data; no entry for key {quote(name)}")
            return MISSING
        go_type = _INTERFACE if is_interface or receiver is None else type_of(receiver)
        if receiver is None:
            self.fail(f"nil pointer evaluating {go_type}.{name}")
        receiver = indirect(receiver)
        has_arguments = bool(arguments) or final is not _ABSENT
        if method := getattr(receiver, "methods", {}).get(name):
            count, function = method
            return self._apply(dot, name, (("string",) * count, False, function), node, arguments, final)
        if isinstance(receiver, Struct):
            if (found := receiver.get(name)) is not MISSING:
                if has_arguments:
                    self.fail(f"{name} has arguments but cannot be invoked as function")
                return found
        elif isinstance(receiver, dict):
            if has_arguments:
                self.fail(f"{name} is not a method but has arguments")
            if name not in receiver and self._missing_is_error:
                self.fail(f"map has no entry for key {quote(name)}")
            return receiver.get(name, MISSING)
        elif isinstance(receiver, Nil) and name in receiver.fields:
            self.fail(f"nil pointer evaluating {go_type}.{name}")
        self.fail(f"can't evaluate field {name} in type {go_type}")

    # functions and their arguments

    def _function(
        self, dot: Any, word: nodes.Identifier, node: nodes.Node, arguments: Sequence[nodes.Node], final: Any
    ) -> Any:
        self._node = word
        signature = self._functions[word.name]
        if word.name in ("and", "or") and (arguments or final is not _ABSENT):
            value = MISSING
            for argument in arguments:
                value = self._argument(dot, "value", argument)
                if is_true(value) == (word.name == "or"):
                    return value
            return value if final is _ABSENT else final
        return self._apply(dot, word.name, signature, node, arguments, final)

    def _apply(
        self, dot: Any, name: str, signature: Function, node: nodes.Node, arguments: Sequence[nodes.Node], final: Any
    ) -> Any:
        types, is_variadic, function = signature
        count = len(arguments) + (final is not _ABSENT)
        if is_variadic and count < len(types) - 1:
            self.fail(f"wrong number of args for {name}: want at least {len(types) - 1} got {count}")
        if not is_variadic and count != len(types):
            self.fail(f"wrong number of args for {name}: want {len(types)} got {count}")
        wanted = [*types, *[types[-1]] * count][:count] if types else []
        values = [self._argument(dot, kind, word) for kind, word in zip(wanted, arguments, strict=False)]
        if final is not _ABSENT:
            values.append(self._checked(final, wanted[-1]))
        try:
            return function(*values)
        except ValueError as e:
            self._node = node
            message = str(e)
            if name == "call" and arguments:
                message = message.replace("non-function of", f"non-function {arguments[0]} of")
            self.fail(f"error calling {name}: {message}")

    def _argument(self, dot: Any, kind: str, word: nodes.Node) -> Any:
        """An argument's value, as a parameter of the kind takes it."""
        self._node = word
        if isinstance(word, nodes.Nil):
            if kind in ("string", "int"):
                self.fail(f"cannot assign nil to {kind}")
            return [] if kind == "[]string" else None if kind == "any" else MISSING
        if isinstance(word, nodes.Literal):
            return self._literal(word, kind)
        return self._checked(self._operand(dot, word), kind)

    def _operand(self, dot: Any, word: nodes.Node) -> Any:
        if isinstance(word, nodes.Dot):
            return dot
        if isinstance(word, nodes.Pipe):
            return self._pipe(dot, word)
        if isinstance(word, nodes.Identifier):
            return self._function(dot, word, word, (), _ABSENT)
        if isinstance(word, nodes.Literal):
            return word.value
        assert isinstance(word, nodes.Field | nodes.Chain | nodes.Variable)
        return self._fields(dot, word, (), _ABSENT)

    def _constant(self, word: nodes.Literal) -> Any:
        if isinstance(word.value, int) and word.value > LARGEST:
            self.fail(f"{word} overflows int")
        return word.value

    def _literal(self, word: nodes.Literal, kind: str) -> Any:
        value = self._constant(word)
        if kind == "string" and not isinstance(value, str):
            self.fail(f"expected string; found {word}")
        if kind == "int":
            if isinstance(value, float) and value.is_integer():
                return int(value)
            if not isinstance(value, int) or isinstance(value, bool):
                self.fail(f"expected integer; found {word}")
        if kind == "[]string":
            self.fail(f"can't handle {word} for arg of type {kind}")
        return value

    def _checked(self, value: Any, kind: str) -> Any:
        if kind == "value":
            return value
        if value is MISSING:
            if kind == "any":
                return None
            if kind == "[]string":
                return []
            self.fail(f"invalid value; expected {kind}")
        if kind == "any" or _is_assignable(value, kind):
            return value
        if isinstance(value, Pointer) and _is_assignable(value.value, kind):
            return value.value
        shown = _INTERFACE if value is None else type_of(value)
        self.fail(f"wrong type for value; expected {kind}; got {shown}")


def _is_assignable(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str) and not isinstance(value, String)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool | Int)
    # of slices, also a named type is
    return isinstance(value, list) and type_of(value) in ("[]string", "strslice.StrSlice")


def _printed(value: Any) -> str:
    """What `{{value}}` is: pointers are followed."""
    if type(value) is str:
        return value
    value = indirect(value)
    if isinstance(value, Struct) and value.go_type.startswith("*") and value.text is None:
        value = Struct(value.go_type[1:], value.fields)
    return "<no value>" if value is MISSING or value is None else printing.text_of(value)
