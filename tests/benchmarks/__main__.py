"""Print one table of speed, memory and agreement, each beside its reference in the same run.

    python -m tests.benchmarks                 all of it, in about an hour
    python -m tests.benchmarks frame keys      two of its parts

Analyses stand beside WeightWatcher where it is installed (`pip install 'lorabench[parity]'`), and otherwise
beside a dense SVD by numpy. What is generated lies in a temporary folder (3.3 GB for `memory`, which is
measured on Linux only) and is removed.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks import adapters, base, face, growth, layers, train
from tests.benchmarks.table import Line

BENCHMARKS: dict[str, Callable[[Path], Iterator[Line]]] = {
    "square": layers.square,
    "wide": layers.wide,
    "agreement": layers.agreement,
    "llama7b": adapters.llama_7b,
    "report": adapters.report_560,
    "memory": adapters.memory_70b,
    "base": base.base_layers,
    "second": base.second_adapter,
    "frame": face.first_frame,
    "keys": face.keys,
    "train": train.train,
    "growth": growth.growth,
}


def main() -> None:
    """Run the benchmarks that were named, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="\n".join(
            f"{name:<10}{(run.__doc__ or '').splitlines()[0]}" for name, run in BENCHMARKS.items()
        ),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="one or more of those below; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores")
    print(f"reference of an analysis: {layers.REFERENCE}")
    print("reference of the screens: a bare Textual app; of a training: `trl sft`, without lorabench\n")
    print(Line("benchmark", "lorabench", "reference", "ratio", "goal"))
    for name in names:
        with tempfile.TemporaryDirectory(prefix="lorabench-") as folder:
            for line in BENCHMARKS[name](Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
