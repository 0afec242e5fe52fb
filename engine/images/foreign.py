"""Foreign layers: those whose manifest says where else they are, since their licence forbids to push them (Windows's base).

image-spec v1.1 layer.md, "Non-Distributable Layers" (deprecated), and Docker's manifest-v2-2, `urls`. The addresses are a
stranger's text. They are asked without any credentials, headers or client certificates (CVE-2020-15157), and by https:
plain http, which a stranger could point into this machine's network, only where the registry itself speaks it.
"""

from __future__ import annotations

from collections.abc import Mapping

import requests

from engine.errors import RegistryError
from engine.images.transport import Transport
from engine.oci.image import Descriptor

_TYPES = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")
# More would be a way to have mini knock at many doors.
_MAX_URLS = 8


def open_layer(
    transport: Transport, layer: Descriptor, headers: Mapping[str, str], plain: bool
) -> requests.Response | None:
    """The answer (200 or 206) of the first of the layer's addresses that has it; None where the registry must be asked.

    `plain`: the registry that named them is spoken to by http itself.
    """
    if not layer.media_type.startswith(_TYPES):
        return None
    for url in layer.urls[:_MAX_URLS]:
        scheme = url.partition(":")[0].lower()
        if scheme != "https" and not (scheme == "http" and plain):
            continue
        try:
            response = transport.send("GET", url, headers, attempts=1)
        except RegistryError:
            continue
        if response.status_code in (200, 206):
            return response
        response.close()
    return None
