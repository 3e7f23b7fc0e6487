"""What code does with what it closes over: the same on every version of Python, since keys depend on it."""

import pytest

from exp_pool.changes import uses_of

BODIES = [
    ("x.append(q)", {("call", "append")}),
    ("[x.append(c) for c in q]", {("call", "append")}),
    ("(lambda: x.append(q))()", {("call", "append")}),
    ("x[q] = 1", {("item", ...)}),
    ("x['n'] = 1", {("item", "n")}),
    ("x[f'{q}{1:>3}', str(q)] = 1", {("item", ...)}),
    ("x[q] += 1", {("item", ...)}),
    ("x['n'] += 1", {("item", "n")}),
    ("x['n']['m'].append(q)", {("item", "n")}),
    ("x[q].append(q)", {("item", ...)}),
    ("x[1:2] = q", {("item", ...)}),
    ("del x[q]", {("item", ...)}),
    ("del x.n", {("attr", "n")}),
    ("x.n = q", {("attr", "n")}),
    ("x.n += q", {("attr", "n")}),
    ("x.n[q] = 1", {("attr", "n")}),
    ("x.n.append(q)", {("attr", "n")}),
    ("next(x)", {("consumed", None)}),
    ("next(x, None)", {("consumed", None)}),
    ("q[x] = 1", {("read", None)}),
    ("q[0] = x", {("read", None)}),
    ("q.n = x", {("read", None)}),
    ("q[x.n] = 1", {("read", "n")}),
    ("x.sort()", {("read", "sort")}),
    ("x.n", {("read", "n")}),
    ("x.n(q)", {("read", "n")}),
    ("x['n']", {("read", None)}),
    ("x['n'].m", {("read", None)}),
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

        return f

    assert ("rebound", None) in uses_of(make().__code__)["x"]
