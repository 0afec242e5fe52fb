"""A large image for benchmarks, of this machine's own /usr: about 90,000 files and 2 GB in 4 layers, gzip-compressed.

python -m tests.bench.big_image DIRECTORY          makes DIRECTORY/layer-{0,1,2,3}.tar
"""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator

FILES, BYTES, LAYERS = 90_000, 2_000_000_000, 4


def entries() -> Iterator[tuple[str, os.stat_result]]:
    """Paths below /usr in a fixed order, small trees first, regular files, directories and links only."""
    for top in ("/usr/include", "/usr/share", "/usr/local", "/usr/lib"):
        for directory, names, files in os.walk(top):
            names.sort()
            for name in sorted(files) + [n for n in names if os.path.islink(f"{directory}/{n}")]:
                path = f"{directory}/{name}"
                status = os.lstat(path)
                if not os.path.islink(path) and not os.path.isfile(path):
                    continue
                if status.st_size < 200_000_000:
                    yield path, status


def build(directory: str) -> list[str]:
    """Writes the layers and returns their paths, lowest first. Prints how much is in them."""
    os.makedirs(directory, exist_ok=True)
    files = size = 0
    paths = [f"{directory}/layer-{n}.tar" for n in range(LAYERS)]
    tars = [tarfile.open(path, "w", format=tarfile.GNU_FORMAT) for path in paths]
    for path, status in entries():
        if files >= FILES:
            break
        # a file larger than most comes in only while the mean stays what it should be in the end
        if status.st_size > 10_000 and (size + status.st_size) * FILES > BYTES * (files + 1000):
            continue
        tars[files * LAYERS // FILES].add(path, recursive=False)
        files += 1
        size += status.st_size
    for tar in tars:
        tar.close()
    print(f"{files:,} files, {size / 1e9:.2f} GB in {LAYERS} layers", file=sys.stderr)
    return paths


if __name__ == "__main__":
    build(sys.argv[1])
