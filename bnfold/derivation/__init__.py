"""Files of lower precision derived a second time, by code that shares nothing with what writes them but the recipe.

| file | module |
|---|---|
| int8 | `integers.py`, `integer_parameters.py` |
| float16 | `half.py` |
"""
