"""Start one of the stand-ins: `start.py command|random|language ARGUMENTS`.

The executables in bin/ call this file by its path, so that it works from any directory and
leaves the environment, which commands and programs inherit, as it was.
"""

import importlib
import sys
from pathlib import Path

# The folder of this script would let its neighbours hide modules of the standard library.
sys.path[0] = str(Path(__file__).resolve().parents[2])

importlib.import_module(f"lab.engine.{sys.argv.pop(1)}").main()
