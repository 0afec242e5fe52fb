"""Where mini-runtime starts. Short, because it is compiled at every start."""

import sys

if not __package__:
    # `python -I -S engine/runtime/oci_cli/__main__.py`, see engine/__main__.py
    _checkout = __file__.rpartition("/engine/")[0]
    sys.path += [_checkout, f"{_checkout}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"]

from engine import pack

pack.install(__file__.rpartition("/engine/")[0])

from engine.runtime.oci_cli.start import main  # noqa: E402

if __name__ == "__main__":
    main()
