"""A small mini for the tests of its own interpreter: run by a *copy* of Python, since what is tested could overwrite it.

PYTHON -I launcher.py CHECKOUT protect|trust run SPEC          makes and starts a container, prints init's pid, and goes
PYTHON -I launcher.py CHECKOUT protect|trust exec SPEC PID     one `true` in it, waited for
"""

import json
import os
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "protect":
    from engine.runtime.process import protect

    protect.ensure_protected(sys.orig_argv)

from engine.runtime.process import exec as joined
from engine.runtime.process import launch

null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
options: Any = {"stdio": (null, null, null), "cgroup": None, "seccomp": None}
with open(sys.argv[4]) as file:
    wanted = json.load(file)
if sys.argv[3] == "run":
    process = launch.create(wanted["spec"], rootfs=wanted["rootfs"], **options)
    process.start()
    print(process.pid, flush=True)
else:
    process = joined.spawn(int(sys.argv[5]), wanted["spec"]["process"] | {"args": ["true"]}, **options)
    process.start()
    sys.exit(process.wait())
