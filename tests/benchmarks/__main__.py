"""``make bench``: measures calls, chunks and more, of our packages and of the peers in one run.

    make bench ARGS="--quick"                    a minute or two, and rough
    make bench ARGS="--only call --only chunk"   the lines whose names begin so
    make bench ARGS="--ours"                     without the peers, which take most of the time
    make bench ARGS="--json figures.json"

Figures are the middle ones of several rounds in which all take turns. A machine that does other
things meanwhile moves them by 10 % easily: compare ratios, never microseconds of two runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lab import Lab
from lines import LINES
from report import as_json, format_figure, format_table


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a tenth of the work")
    parser.add_argument(
        "--only", action="append", metavar="LINE", default=[], help="lines that begin so"
    )
    parser.add_argument(
        "--ours", action="store_true", help="leave out peers, but the vendor's own client"
    )
    parser.add_argument("--rounds", type=int, help="how often each figure is taken (7; quick: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    lines = [
        line for line in LINES if not arguments.only or line.name.startswith(tuple(arguments.only))
    ]
    if not lines:
        parser.error(f"no line begins so; there are: {'; '.join(line.name for line in LINES)}")
    rows = []
    rounds = arguments.rounds or (2 if arguments.quick else 7)
    with Lab(rounds, scale=0.1 if arguments.quick else 1.0, has_peers=not arguments.ours) as lab:
        for line in lines:
            print(f"measuring: {line.name} …", file=sys.stderr)
            for row in line.measure(lab, line.name):
                print(
                    f"  {row.line} {row.mode} {format_figure(row.ours)} {row.unit}", file=sys.stderr
                )
                rows.append(row)
    print(format_table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(rows), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
