"""Where mini-runtime starts. Short, because it is compiled at every start."""

import sys

_top = __file__.rpartition("/engine/")[0]
if not __package__:
    # `python -I -S engine/runtime/oci_cli/__main__.py`, see engine/__main__.py
    sys.path += [_top, f"{_top}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"]

from engine import pack  # noqa: E402

pack.install(_top)
if not __package__ and _top.endswith("-packages"):
    from engine import outside

    sys.path += outside.directories(_top)

from engine.runtime.oci_cli.start import main  # noqa: E402

if __name__ == "__main__":
    main()
