"""A certificate authority with a server (localhost) and a client, made by openssl(1), good for a day."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no program openssl")


class Authority:
    """`ca`, and pairs of (certificate, key), as PEM files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca, self._key = str(folder / "ca.pem"), str(folder / "ca.key")
        self._run("req", "-x509", *_KEY, "-nodes", "-days", "1", "-subj", "/CN=test authority",
                  "-keyout", self._key, "-out", self.ca)  # fmt: skip
        self.server = self._issue("server", "localhost")
        self.client = self._issue("client", "somebody")

    def context(self, ask_client: bool = False) -> ssl.SSLContext:
        """What the server speaks TLS with; `ask_client`: nobody without a certificate of this authority gets in."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        if ask_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _issue(self, name: str, host: str) -> tuple[str, str]:
        certificate, key, request = (str(self._folder / f"{name}.{suffix}") for suffix in ("pem", "key", "csr"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{host}\n")
        self._run("req", *_KEY, "-nodes", "-subj", f"/CN={host}", "-keyout", key, "-out", request)
        self._run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "1",
                  "-extfile", str(extensions), "-out", certificate)  # fmt: skip
        return certificate, key

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self._folder)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
