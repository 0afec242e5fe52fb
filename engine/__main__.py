"""Where mini starts: the launcher `mini`, of a checkout or installed, and `python -m engine`.

Short, because it is compiled at every start: Python keeps no bytecode of the script that it is given.
"""

import sys

_top = __file__.rpartition("/engine/")[0]
if not __package__:
    # `python -I -S engine/__main__.py`, as the launcher starts it: `site` would take as long as everything else here.
    # What it would have found goes behind the standard library: this checkout and the packages of its virtual environment, or,
    # installed, the directory of packages that mini is in, and the system's where pip may have found dependencies there.
    sys.path += [_top, f"{_top}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"]

from engine import pack  # noqa: E402

pack.install(_top)
if not __package__ and _top.endswith("-packages"):
    from engine import outside

    sys.path += outside.directories(_top)

from engine.cli.start import main  # noqa: E402

if __name__ == "__main__":
    main()
