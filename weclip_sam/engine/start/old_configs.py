"""The config of a checkpoint that was written before checkpoints held it as plain values: Python text, never run.

mmengine writes a config as Python text, into a checkpoint and into the file beside it. Executing that text would give a
stranger's file the user's rights, so it is parsed instead: assignments of numbers, strings, lists, tuples, sets and
``dict(...)``, nothing else.
"""
from __future__ import annotations

import ast
from typing import Any


def parse_literal_config(text: str | bytes, source: str) -> dict[str, Any]:
    """Read a dumped config (``name = value`` lines of plain values) without executing it.

    Args:
        text: as ``Config.pretty_text`` gives it.
        source: where it came from, for errors.

    Raises:
        ValueError: no Python text, or something other than plain values in it.
    """
    values = {}
    try:
        for statement in ast.parse(text).body:
            if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                    and isinstance(statement.targets[0], ast.Name)):
                raise _not_plain(source, statement)
            values[statement.targets[0].id] = _value(statement.value, source)
    except _NotPlain:
        raise
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:  # TypeError: a list as a key
        raise ValueError(f'{source}: the config in it cannot be read ({error})') from None
    return values


class _NotPlain(ValueError):
    pass


def _not_plain(source: str, node: ast.AST) -> _NotPlain:
    return _NotPlain(f'{source}: refused. Line {getattr(node, "lineno", "?")} of the config in it is no plain value '
                     f'(`{ast.unparse(node)[:80]}`), and running it could do anything. Nothing was executed; give the '
                     'config file yourself if you trust it.')


def _value(node: ast.expr, source: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        values = [_value(item, source) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values) if isinstance(node, ast.Tuple) else set(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key, source): _value(value, source) for key, value in zip(node.keys, node.values, strict=True)
                if key is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        if node.func.id == 'set' and not node.keywords:
            return set()
        if node.func.id == 'dict' and all(keyword.arg is not None for keyword in node.keywords):
            return {keyword.arg: _value(keyword.value, source) for keyword in node.keywords}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand, source)
        if isinstance(inner, (int, float)):
            return -inner
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    raise _not_plain(source, node)
