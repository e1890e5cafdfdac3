"""`make bench`: how long things take and how much they need, beside their goals.

Everything of one table runs in one sitting, interleaved, on a machine that should have nothing else to do.
Arguments name the tables to make, all when none is named: `commands`, `serving`, `calls`, `memory`, `images`.
"""

from __future__ import annotations

import sys

from scripts.bench import calls, commands, images, memory, serving

TABLES = {
    "commands": commands.main,
    "serving": serving.main,
    "calls": calls.main,
    "memory": memory.main,
    "images": images.main,
}


def main() -> None:
    wanted = sys.argv[1:] or list(TABLES)
    unknown = [name for name in wanted if name not in TABLES]
    if unknown:
        sys.exit(f"unknown table {unknown[0]!r}, expected one of {', '.join(TABLES)}")
    for number, name in enumerate(wanted):
        print("" if number == 0 else "\n", end="", flush=True)
        TABLES[name]()


if __name__ == "__main__":
    main()
