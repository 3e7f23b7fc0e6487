"""Byte-code analysis of closures: which variables a function reads, and which it changes (a counter, a list, a memo).

Read from byte code, since source is not always there. What the versions of Python write differently is evened out, so
that each of them finds the same: a value is followed from where it is loaded to what takes it off the stack. Where that
cannot be followed (a condition inside an index), nothing is found, and what is closed over counts as read only.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

# ("attr", name), ("item", constant or ANY), ("call", name of a method), ("read", name), ("got", constant of an item),
# ("call of items", (name of a method, constants)), ("within", (attribute or item, what is done with that))
Use: TypeAlias = tuple[str, Any]

ANY = ...  # an index that is not the same each time
REBOUND: Use = ("rebound", None)  # `nonlocal`: the variable itself
CONSUMED: Use = ("consumed", None)  # by next()
READ: Use = ("read", None)  # as a whole
SUMMED: Use = ("summed", None)  # by `+=` and the like
TAKEN: Use = ("taken", None)  # what a collecting method gives away is used

# Methods by which the built-in containers take in or give away; sorting and reversing say nothing new of the content.
COLLECTING = frozenset(
    "append appendleft extend extendleft add update insert setdefault pop popleft popitem remove discard clear "
    "subtract difference_update intersection_update symmetric_difference_update move_to_end write "
    "writelines __setitem__".split()
)

_GIVING = ("pop", "popleft", "popitem", "setdefault")

_NO_CHANGE = ("CACHE", "PRECALL", "EXTENDED_ARG", "NOP", "RESUME", "KW_NAMES")
_TAKEN = {  # how many values an instruction takes off the stack, where that is not what its effect on the depth says
    "STORE_SUBSCR": 3, "DELETE_SUBSCR": 2, "BINARY_SUBSCR": 2, "STORE_SLICE": 4, "BINARY_SLICE": 3, "BINARY_OP": 2,
    "COMPARE_OP": 2, "IS_OP": 2, "CONTAINS_OP": 2, "LOAD_ATTR": 1, "LOAD_METHOD": 1, "FORMAT_SIMPLE": 1,
    "CONVERT_VALUE": 1, "FORMAT_WITH_SPEC": 2, "STORE_ATTR": 2, "DELETE_ATTR": 1, "GET_ITER": 1, "POP_TOP": 1,
    "RETURN_VALUE": 1, "YIELD_VALUE": 1,
}  # fmt: skip
_TAKES_ARGUMENT = ("BUILD_TUPLE", "BUILD_LIST", "BUILD_SET", "BUILD_STRING", "BUILD_SLICE")
_HELD_BELOW = {  # how many values lie above the one of which something is taken or changed
    "STORE_SUBSCR": 1, "DELETE_SUBSCR": 1, "BINARY_SUBSCR": 1, "STORE_SLICE": 2, "STORE_ATTR": 0, "DELETE_ATTR": 0,
}  # fmt: skip
_OF_VARIABLES = ("DEREF", "FAST", "FAST_CHECK", "FAST_BORROW")
_NB_SUBSCR = "[]"
_CONSTANTS = ("LOAD_CONST", "LOAD_SMALL_INT")


@functools.lru_cache(maxsize=4096)
def uses_of(code: types.CodeType) -> Mapping[str, frozenset[Use]]:
    """For each variable that the code closes over: what is changed of it, and what is read, one step from the variable.

    ``("item", "n")`` for ``state["n"] = 1``; ``("attr", "n")`` likewise; ``("item", ANY)`` for ``seen[k] = v``;
    ``("call", "append")`` for ``calls.append(x)``; ``("read", "n")`` for ``x.n``, ``("got", "n")`` for ``x["n"]``.
    What is changed further down stands in what holds it: ``("within", (("item", "n"), SUMMED))`` for
    ``state["n"] += 1``.
    """
    return _uses(code, code.co_freevars)


@functools.lru_cache(maxsize=4096)
def uses_of_self(code: types.CodeType) -> frozenset[Use]:
    """What a method does with its first parameter, as `uses_of` says it."""
    if not code.co_argcount or "__class__" in code.co_freevars:  # super() takes it without a word
        return frozenset({READ})
    return _uses(code, code.co_varnames[:1])[code.co_varnames[0]]


def _uses(code: types.CodeType, variables: Sequence[str]) -> Mapping[str, frozenset[Use]]:
    found: dict[str, set[Use]] = {name: set() for name in variables}
    instructions = _with_names(code, list(dis.get_instructions(code)))
    for at, instruction in enumerate(instructions):
        operation = instruction.opname
        # From 3.13 on two local variables may be loaded at once, the second one on top.
        loaded = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        for name, uses in found.items():
            # A variable that inner functions share is loaded as any other only to be handed to them (from 3.13 on).
            kinds = ("DEREF",) if name in (*code.co_freevars, *code.co_cellvars) else _OF_VARIABLES
            if name not in loaded or not operation.endswith(kinds):
                continue
            if operation in ("STORE_DEREF", "DELETE_DEREF", "STORE_FAST", "DELETE_FAST"):
                uses.add(SUMMED if at and _is_augmenting(instructions[at - 1]) else REBOUND)
            elif not _is_summed(instructions, at):
                uses.update(_used(instructions, at) if loaded[-1] == name else {READ})
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for name, within in uses_of(inner).items():
                if name in found:
                    found[name] |= within
    return {name: frozenset(uses) for name, uses in found.items()}


def _used(instructions: Sequence[dis.Instruction], at: int) -> set[Use]:
    """What is changed of the variable that is loaded here, or else read of it."""
    if at and instructions[at - 1].opname == "LOAD_GLOBAL" and instructions[at - 1].argval == "next":
        return {CONSUMED}
    if at > 1 and instructions[at - 1].opname == "PUSH_NULL" and instructions[at - 2].argval == "next":
        return {CONSUMED}
    steps: list[Use] = []
    walk = _from(instructions, at + 1)
    for instruction, above, index in walk:
        operation, name = instruction.opname, instruction.argval
        if above != _HELD_BELOW.get(operation, above):  # it is the index, or what is assigned
            break
        if operation in ("LOAD_ATTR", "LOAD_METHOD"):
            if name in COLLECTING:
                change, is_used = _collected(instructions, instructions.index(instruction), next(walk, (None,))[0])
                return {_within(steps, change), *([_reading(steps) if steps else TAKEN] if is_used else [])}
            steps.append(("attr", name))
        elif operation in ("STORE_ATTR", "DELETE_ATTR"):
            return {_within(steps, ("attr", name))}
        elif operation == "COPY":  # += keeps what it adds to
            changed = index if above else _augmented(instructions, instruction)
            return {_within(steps, ("within", (changed, SUMMED)))} if changed is not None else {_reading(steps)}
        elif operation in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
            return {_within(steps, index)}
        elif operation == "BINARY_SUBSCR" or (operation == "BINARY_OP" and instruction.argrepr == _NB_SUBSCR):
            steps.append(index)
        else:
            break
    return {_reading(steps)}


def _within(steps: Sequence[Use], change: Use) -> Use:
    """A change of what these steps lead to; of an item that is not the same each time no more is known."""
    for step in reversed(steps):
        change = ("within", (step, change))
    return _cut(change)


def _cut(change: Use) -> Use:
    if change[0] != "within":
        return change
    step, inner = change[1]
    return step if step == ("item", ANY) else ("within", (step, _cut(inner)))


def _reading(steps: Sequence[Use]) -> Use:
    if steps and steps[0][0] == "attr":
        return ("read", steps[0][1])
    return ("got", steps[0][1]) if steps and steps[0][1] is not ANY else READ


def _collected(instructions: Sequence[dis.Instruction], at: int, call: dis.Instruction | None) -> tuple[Use, bool]:
    """What the collecting method that is loaded here changes, and whether what it gives away is used.

    Only the items that constants name, where these are all: ``cfg.setdefault("n", 1)``, ``cfg.update(n=1)``.
    """
    method = instructions[at].argval
    if call is None or call.opname not in ("CALL", "CALL_KW"):
        return ("call", method), method in _GIVING
    end = instructions.index(call)
    is_used = method in _GIVING and instructions[end + 1].opname != "POP_TOP"
    names = _names_given(instructions[at + 1 : end + 1], method)
    return (("call of items", (method, names)) if names and all(map(_is_name, names)) else ("call", method)), is_used


def _names_given(giving: Sequence[dis.Instruction], method: str) -> tuple[Any, ...]:
    """The constants that name what a call changes, by the instructions up to the call; none if others may, too."""
    *pushing, call = giving
    places = [(at, load.argval) for at, load in enumerate(pushing) if load.opname in _CONSTANTS]
    if method in ("pop", "setdefault", "__setitem__"):
        taken = [(name, next(_from(giving, at + 1), None)) for at, name in places]
        return tuple(n for n, by in taken if by is not None and by[0] is call and by[1] == (call.arg or 0) - 1)
    if method != "update":
        return ()
    if isinstance(call.argval, tuple):
        return call.argval if len(call.argval) == call.arg else ()
    made = pushing[-1] if pushing and call.arg == 1 else None
    if made is None or made.opname not in ("BUILD_CONST_KEY_MAP", "BUILD_MAP"):
        return ()
    if isinstance(pushing[-2].argval, tuple) and made.opname == "BUILD_CONST_KEY_MAP":
        return pushing[-2].argval
    taken = [(name, next(_from(giving, at + 1), None)) for at, name in places]
    keys = tuple(name for name, by in taken if by is not None and by[0] is made and by[1] % 2)
    return keys if len(keys) == made.arg else ()


def _with_names(code: types.CodeType, instructions: Sequence[dis.Instruction]) -> list[dis.Instruction]:
    """The instructions that matter; a call by keywords has the names of these as its `argval`."""
    found: list[dis.Instruction] = []
    names: Any = None
    for instruction in instructions:
        if instruction.opname == "KW_NAMES":  # up to 3.12
            names = code.co_consts[instruction.arg or 0]
        if instruction.opname in _NO_CHANGE:
            continue
        if instruction.opname == "CALL_KW":
            names = found[-1].argval
        if instruction.opname in ("CALL", "CALL_KW") and names is not None:
            found.append(instruction._replace(argval=names))
            names = None
        else:
            found.append(instruction)
    return found


def _is_augmenting(instruction: dis.Instruction) -> bool:
    return instruction.opname == "BINARY_OP" and instruction.argrepr.endswith("=")


def _is_summed(instructions: Sequence[dis.Instruction], at: int) -> bool:
    """Whether the variable that is loaded here is what ``+=`` adds to, and nothing else."""
    taking = next(_from(instructions, at + 1), None)
    if taking is None or not _is_augmenting(taking[0]) or taking[1] != 1:
        return False
    stored = instructions[instructions.index(taking[0]) + 1]
    return stored.opname in ("STORE_DEREF", "STORE_FAST") and stored.argval == instructions[at].argval


def _augmented(instructions: Sequence[dis.Instruction], copied: dis.Instruction) -> Use | None:
    """The attribute of ``x.n += 1``; None where a copy is for something else."""
    following = instructions[instructions.index(copied) + 1 :][:1]
    return ("attr", following[0].argval) if following and following[0].opname == "LOAD_ATTR" else None


def _from(instructions: Sequence[dis.Instruction], at: int) -> Iterator[tuple[dis.Instruction, int, Use]]:
    """The instructions that consume a value on the stack, then those that consume their result, and so on.

    With each how many values lie above it then, and what these are as an index.
    """
    above, pushed = 0, at  # how many values lie above the one followed, and where the first of these was pushed
    for here in range(at, len(instructions)):
        instruction = instructions[here]
        if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
            return
        index = _index(instructions[pushed:here])
        if instruction.opname == "COPY" and instruction.arg == above + 1:
            yield instruction, above, index
            return
        if _taken(instruction) > above:
            yield instruction, above, index
            above, pushed = 0, here + 1
            continue
        # Of a call 3.11 has the effect in two instructions, of which one is left out here.
        is_call = instruction.opname == "CALL"
        effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        above += 1 - _taken(instruction) if is_call else effect
        if above < 0:
            return


def _index(pushing: Sequence[dis.Instruction]) -> Use:
    constant = len(pushing) == 1 and pushing[0].opname in _CONSTANTS
    return ("item", pushing[0].argval if constant and _is_name(pushing[0].argval) else ANY)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int | bytes)


def _taken(instruction: dis.Instruction) -> int:
    operation, argument = instruction.opname, instruction.arg or 0
    if operation in _TAKEN:
        return _TAKEN[operation]
    if operation in _TAKES_ARGUMENT:
        return argument
    if operation == "BUILD_MAP":
        return 2 * argument
    if operation == "FORMAT_VALUE":
        return 2 if argument & 4 else 1
    if operation in ("CALL", "CALL_KW"):
        return argument + (3 if operation == "CALL_KW" else 2)
    if operation == "CALL_FUNCTION_EX":
        return 3 + (argument & 1)
    if operation.startswith(("LOAD_", "PUSH_", "COPY")):
        return 0
    if operation == "SWAP":
        return argument
    return max(1, 1 - dis.stack_effect(instruction.opcode, instruction.arg, jump=False))
