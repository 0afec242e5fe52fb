"""Packages outside mini's own directory, for an installed mini whose Python was started without `site` (the launchers' -I -S)."""

import sys


def directories(packages: str) -> list[str]:
    """Where else this Python has packages, when mini is in its directory `packages`: what pip finds there it does not install.

    Nowhere for a virtual environment, unless it shares the system's (PEP 405).
    """
    try:
        with open(f"{packages}/../../../pyvenv.cfg", encoding="utf-8") as file:
            settings = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in file)}
        if settings.get("include-system-site-packages", "").lower() != "true":
            return []
    except FileNotFoundError:
        pass
    import site

    return site.getsitepackages([sys.base_prefix])
