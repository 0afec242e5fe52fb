"""Where mini-runtime starts. Short, because it is compiled at every start."""

from __future__ import annotations

import sys

if not __package__:
    # `python -I -S engine/runtime/oci_cli/__main__.py`, see engine/__main__.py
    _checkout = __file__.rpartition("/engine/")[0]
    sys.path += [_checkout, f"{_checkout}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"]

from engine.runtime.oci_cli.start import main

if __name__ == "__main__":
    main()
