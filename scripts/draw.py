"""Draw the pictures of README.md and docs/: each from what it shows.

    python scripts/draw.py [--check]

`--check` writes nothing and ends with exit code 1 where a picture is not what would be drawn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pictures.before_after import before_after
from pictures.rooms import rooms
from pictures.units import units

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURES = {"before_after.svg": before_after, "rooms.svg": rooms, "units.svg": units}


def main() -> int:
    """Write every picture, or say which differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say which are out of date")
    check = parser.parse_args().check
    different = []
    for name, draw in PICTURES.items():
        text = draw()
        if (DOCS / name).is_file() and (DOCS / name).read_text() == text:
            continue
        different.append(name)
        if not check:
            (DOCS / name).write_text(text)
            print(f"wrote docs/{name}")
    if check and different:
        print(f"error: not what scripts/draw.py draws: {', '.join(different)}; run it without --check", file=sys.stderr)
    return int(check and bool(different))


if __name__ == "__main__":
    raise SystemExit(main())
