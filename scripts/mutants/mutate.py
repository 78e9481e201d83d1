"""Change our own fold in one place at a time, and see whether a test notices.

    python scripts/mutants/mutate.py --seed 1                     # 60 mutants, resumed where it was left
    python scripts/mutants/mutate.py --seed 1 --minutes 9         # stop after nine minutes, with what there is
    python scripts/mutants/mutate.py --seed 1 --again             # survivors once more, after new tests
    python scripts/mutants/mutate.py --seed 1 --also COMMAND      # a second judge of what the tests let pass

Mutants are made from the syntax tree (`mutant_operators.py`): negated guards, dropped terms, flipped signs, products
and bounds, other axes, attributes and defaults, swapped arguments, dropped calls and members. One at least is drawn of
each module of rules, and of each other module of the fold (`mutant_targets.py`). Each runs in a copy of the repository
against the fast tests of `tests/folding` until one fails, then against mypy (`mutant_runs.py`). A mutant that no test
can tell is argued in `equivalent.json`, a sentence each. Results are kept by seed in RESULTS/mutants-SEED.json; the
page is docs/mutants.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # where common/ lies
from mutant_operators import Mutant
from mutant_page import page
from mutant_runs import Workshop
from mutant_targets import draw, every_mutant, reason

ROOT = Path(__file__).resolve().parents[2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--results", type=Path, default=ROOT / "build", help="where results are kept")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after so many")
    parser.add_argument("--also", help="a command that judges, in the copy, what the tests let pass")
    parser.add_argument("--again", action="store_true", help="try those again that survived")
    parser.add_argument("--module", help="only those whose module's path holds this")
    parser.add_argument("--page", type=Path, help="write the table of all seeds in RESULTS to this file")
    return parser.parse_args()


def main() -> int:
    """Try the mutants of a seed that have no result yet; 1 if one survives unargued."""
    given = _arguments()
    given.results.mkdir(parents=True, exist_ok=True)
    store = given.results / f"mutants-{given.seed}.json"
    known = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    drawn = draw(every_mutant(ROOT), given.count, given.seed)
    wanted = [m for m in drawn if not given.module or given.module in m.path]
    todo = [m for m in wanted if _is_open(m, known, again=given.again)]
    deadline = time.monotonic() + 60 * given.minutes
    workshop = Workshop(ROOT, given.also) if todo else None
    for first_only in (True, False):
        for mutant in todo:
            entry = known.get(mutant.key)
            is_next = (entry is None or given.again) if first_only else (entry is not None and entry["state"] == "open")
            if workshop is None or not is_next or time.monotonic() > deadline:
                continue
            outcome = workshop.try_out(mutant, first_only=first_only)
            known[mutant.key] = _entry(mutant, outcome.state, outcome.by, outcome.seconds)
            if store.exists():  # another process may try other mutants of the seed
                known = {**json.loads(store.read_text(encoding="utf-8")), mutant.key: known[mutant.key]}
            store.write_text(json.dumps(known, indent=1), encoding="utf-8")
            print(f"{outcome.state:9} {outcome.seconds:6.1f} s  {mutant.path}:{mutant.line} {mutant.operator}  "
                  f"`{mutant.before}` -> `{mutant.after}`  {outcome.by}", flush=True)  # fmt: skip
    results = [known[m.key] for m in drawn if m.key in known]
    survived = [entry for entry in results if entry["state"] == "survived"]
    unargued = [m for m in drawn if known.get(m.key, {}).get("state") in ("survived", "open") and reason(m) is None]
    print(f"seed {given.seed}: {len(drawn)} drawn, {len(results)} tried, {len(survived)} survived, "
          f"{len(unargued)} of them unargued")  # fmt: skip
    if given.page is not None:
        given.page.write_text(page(given.results, ROOT), encoding="utf-8")
    return bool(unargued)


def _is_open(mutant: Mutant, known: dict[str, dict[str, object]], *, again: bool) -> bool:
    entry = known.get(mutant.key)
    return (
        entry is None or entry["state"] == "open" or (again and entry["state"] == "survived" and reason(mutant) is None)
    )


def _entry(mutant: Mutant, state: str, by: str, seconds: float) -> dict[str, object]:
    return {
        "path": mutant.path, "line": mutant.line, "function": mutant.function, "operator": mutant.operator,
        "before": mutant.before, "after": mutant.after, "state": state, "by": by, "seconds": seconds,
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
