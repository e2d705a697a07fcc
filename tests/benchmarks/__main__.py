"""Print one table of speed, memory and agreement: `python -m tests.benchmarks [NAME …]`.

Beside WeightWatcher in the same run, where it is installed (`pip install 'lorabench[parity]'`), and otherwise
beside a dense SVD by numpy. Generated adapters lie in a temporary folder (3.3 GB for `memory`, which is
measured on Linux only) and are removed.
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
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores")
    print(f"reference: {layers.REFERENCE}\n")
    print(Line("benchmark", "lorabench", "reference", "ratio", "goal"))
    for name in names:
        with tempfile.TemporaryDirectory(prefix="lorabench-") as folder:
            for line in BENCHMARKS[name](Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
