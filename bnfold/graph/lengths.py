"""Lengths that an exporter wrote as expressions of symbols, in a form in which equal ones look alike."""

from __future__ import annotations

import functools
import re

import onnx_ir as ir

__all__ = ["Dim", "length_of"]

# A length as (integer factor, sorted symbols): 64*batch is (64, ("batch",)). A symbol bnfold cannot read is its own.
Dim = tuple[int, tuple[str, ...]]

_OPERATORS = re.compile(r"[-+*/(]")
_PRODUCT = re.compile(r"\s*[\w.]+\s*(\*\s*[\w.]+\s*)*")
# What no length needs and would take long to expand.
_LONGEST, _HIGHEST_POWER = 200, 8
_POWER = re.compile(r"\*\*\s*(\d+)")
# A length is no fraction: `/decoder/Squeeze_output_0_dim_0` is the name that PyTorch gave to one.
_DIVISION = re.compile(r"(?<!/)/(?!/)")


@functools.lru_cache(maxsize=1 << 12)
def length_of(text: str) -> Dim:
    """The factors of a symbolic length: `(a + 1)*2*a` is `(2, ("a", "a + 1"))`.

    Polynomials with integer coefficients have one factorisation, up to order and sign, so two of them are equal where
    the difference of the `onnx_ir.SymbolicDim` simplifies to 0. A name that is no expression is a symbol of its own.
    """
    if not _OPERATORS.search(text):
        return 1, (text,)
    if _PRODUCT.fullmatch(text):
        return _product(text)
    powers = [int(power) for power in _POWER.findall(text)]
    if _DIVISION.search(text) or len(text) > _LONGEST or max(powers, default=0) > _HIGHEST_POWER:
        return 1, (text,)
    try:
        return _factored(text)
    except (ValueError, TypeError, ArithmeticError, RecursionError):  # "x-" or "1/0": no expression
        return 1, (text,)


def _product(text: str) -> Dim:
    factor, symbols = 1, []
    for part in text.replace(" ", "").split("*"):
        if part.isdecimal():
            factor *= int(part)
        else:
            symbols.append(part)
    return factor, tuple(sorted(symbols))


def _factored(text: str) -> Dim:
    import sympy  # slow to import, and only expressions need it

    expression = ir.SymbolicDim(text).simplify()._expr  # the parsed form has no public name
    if expression is None or expression.has(sympy.zoo, sympy.nan, sympy.oo):
        raise ValueError(f"{text} is no expression")
    try:
        content, factors = sympy.factor_list(expression)
    except sympy.polys.polyerrors.BasePolynomialError:  # 1 / (a + 1), from a power of -1
        return 1, (str(expression),)
    whole = content.is_Integer and all(getattr(power, "is_Integer", isinstance(power, int)) for _, power in factors)
    if not whole:
        return 1, (str(expression),)
    symbols = sorted(str(base) for base, power in factors for _ in range(int(power)))
    if content < 0 and symbols:
        return -int(content), (f"-({symbols[0]})", *symbols[1:])
    return int(content), tuple(symbols)
