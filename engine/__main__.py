"""Where mini starts: `./mini` of a checkout, the console script `mini` of an installed one, and `python -m engine`.

Short, because it is compiled at every start: Python keeps no bytecode of the script that it is given.
"""

import sys

if not __package__:
    # `python -I -S engine/__main__.py`, as the launcher starts it: `site` would take as long as everything else here.
    # What it would have found goes behind the standard library: this checkout, and the virtual environment's packages.
    _checkout = __file__.rpartition("/engine/")[0]
    sys.path += [_checkout, f"{_checkout}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"]

from engine import pack

pack.install(__file__.rpartition("/engine/")[0])

from engine.cli.start import main  # noqa: E402

if __name__ == "__main__":
    main()
