"""What code does with what it closes over: the same on every version of Python, since keys depend on it."""

import pytest

from exp_pool.core.identity.closure_changes import SUMMED, uses_of

BODIES = [
    ("x.append(q)", {("call", "append")}),
    ("[x.append(c) for c in q]", {("call", "append")}),
    ("(lambda: x.append(q))()", {("call", "append")}),
    ("x[q] = 1", {("item", ...)}),
    ("x['n'] = 1", {("item", "n")}),
    ("x[f'{q}{1:>3}', str(q)] = 1", {("item", ...)}),
    ("x[q] += 1", {("item", ...)}),
    ("x['n'] += 1", {("within", (("item", "n"), SUMMED))}),
    ("x['n']['m'].append(q)", {("within", (("item", "n"), ("within", (("item", "m"), ("call", "append")))))}),
    ("x['n'][q].append(q)", {("within", (("item", "n"), ("item", ...)))}),
    ("x[q].append(q)", {("item", ...)}),
    ("x[1:2] = q", {("item", ...)}),
    ("del x[q]", {("item", ...)}),
    ("del x.n", {("attr", "n")}),
    ("x.n = q", {("attr", "n")}),
    ("x.n += q", {("within", (("attr", "n"), SUMMED))}),
    ("x.n[q] = 1", {("within", (("attr", "n"), ("item", ...)))}),
    ("x.n['m'] = 1", {("within", (("attr", "n"), ("item", "m")))}),
    ("x.n.append(q)", {("within", (("attr", "n"), ("call", "append")))}),
    ("next(x)", {("consumed", None)}),
    ("next(x, None)", {("consumed", None)}),
    ("q[x] = 1", {("read", None)}),
    ("q[0] = x", {("read", None)}),
    ("q.n = x", {("read", None)}),
    ("q[x.n] = 1", {("read", "n")}),
    ("x.sort()", {("read", "sort")}),
    ("x.n", {("read", "n")}),
    ("x.n(q)", {("read", "n")}),
    ("x['n']", {("got", "n")}),
    ("x['n'].m", {("got", "n")}),
    ("x[q]", {("read", None)}),
    ("x.setdefault('n', q)", {("call of items", ("setdefault", ("n",)))}),
    ("x.setdefault('n', [q, f'{q}'])", {("call of items", ("setdefault", ("n",)))}),
    ("return x.setdefault('n', 1)", {("call of items", ("setdefault", ("n",))), ("taken", None)}),
    ("x.setdefault('n' + q, 1)", {("call", "setdefault")}),
    ("x.setdefault(q, 'n')", {("call", "setdefault")}),
    ("x.pop('n', None)", {("call of items", ("pop", ("n",)))}),
    ("x.pop()", {("call", "pop")}),
    ("return x.pop()", {("call", "pop"), ("taken", None)}),
    ("x.update(n=q, m=1)", {("call of items", ("update", ("n", "m")))}),
    ("x.update({'n': q})", {("call of items", ("update", ("n",)))}),
    ("x.update({'n': q, 'm': {'o': 1}})", {("call of items", ("update", ("n", "m")))}),
    ("x.update({q: 'n'})", {("call", "update")}),
    ("x.update({**q, 'n': 1})", {("call", "update")}),
    ("x.update(q, n=1)", {("call", "update")}),
    ("x.update(**q)", {("call", "update")}),
    ("x.n.update(m=1)", {("within", (("attr", "n"), ("call of items", ("update", ("m",)))))}),
    ("q + x", {("read", None)}),
    ("len(x)", {("read", None)}),
    ("x[q] = x", {("item", ...), ("read", None)}),
    ("x[q if q else 1] = 1", {("read", None)}),
    ("x[min(*q)] = 1", {("item", ...)}),
    ("x[min(q, key=len)] = 1", {("item", ...)}),
    ("x[min(*q, **{'key': len})] = 1", {("item", ...)}),
    ("x[{'a': q, **{}}['a'], [*q, 1][0], q[1:2]] = 1", {("item", ...)}),
    ("x(q)", {("read", None)}),
    ("f'{x}'", {("read", None)}),
    ("0 < x < 2", {("read", None)}),
]


@pytest.mark.parametrize(("body", "uses"), BODIES, ids=[body for body, _ in BODIES])
def test_what_is_done_with_a_variable(body, uses):
    names = {}
    exec(f"def make(x):\n def f(q):\n  {body}\n return f", names)
    assert uses_of(names["make"](None).__code__) == {"x": uses}


def test_nonlocal():
    def make():
        x = 0

        def f():
            nonlocal x
            x += 1

        def g():
            nonlocal x
            x = x + 1

        return f, g

    assert [uses_of(f.__code__)["x"] for f in make()] == [{SUMMED}, {("rebound", None), ("read", None)}]
