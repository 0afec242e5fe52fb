"""Whether the volumes are as they must be. What is in them is the user's, and is not looked at."""

from __future__ import annotations

import os

from engine import files
from engine.errors import StoreError
from engine.storage import staging
from engine.storage.findings import DAMAGED, RUBBISH, Finding
from engine.storage.volumes import Volumes, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.paths import Paths


def check(paths: Paths) -> list[Finding]:
    """A record that can be read and a directory `_data` for each; nothing half-made."""
    volumes = Volumes(paths)
    found = [
        Finding(RUBBISH, f"volumes/{name}", "half-made or half-removed", "sweep_volumes")
        for name in volumes.leftovers()
    ]
    for name in files.names_in(paths.volumes):
        if not is_name(name):
            continue
        directory = paths.volume(name)
        try:
            whole = isinstance(files.read_json(f"{directory}/volume.json"), dict)
        except (FileNotFoundError, NotADirectoryError, StoreError):
            whole = False
        if not whole and os.path.isdir(directory):
            found.append(Finding(DAMAGED, f"volume {name}", "its record is lost", "restore_volume", name))
        elif whole and not os.path.isdir(f"{directory}/_data"):
            found.append(Finding(DAMAGED, f"volume {name}", "its content is lost", "restore_volume", name))
        elif whole and staging.leftovers(directory):
            found.append(Finding(RUBBISH, f"volume {name}", "filling it was cut short", "finish_volume", name))
    return found
