"""Plays systemd on a bus: `python -m tests.support.systemd_stub ADDRESS CGROUP-ROOT LOG`. It makes scopes in that cgroup.

LOG has a line of JSON for each call: [member, body]. The first says ["ready"].
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

from engine.runtime.cgroups import dbus, units

NAME = "org.freedesktop.systemd1"
MANAGER = f"{NAME}.Manager"
PATH = "/org/freedesktop/systemd1"


class Stub:
    def __init__(self, bus: dbus.Connection, root: str) -> None:
        self.bus, self.root = bus, root
        self.units: dict[str, str] = {}
        self.jobs = 0

    def answer(self, call: dbus.Message) -> None:
        reply = {dbus.REPLY_SERIAL: call.serial, dbus.DESTINATION: call.fields[dbus.SENDER]}
        member, body = call.fields[dbus.MEMBER], call.body
        if member == "StartTransientUnit":
            if body[0] in self.units:
                self.bus.send(dbus.ERROR, reply | {dbus.ERROR_NAME: f"{NAME}.UnitExists"}, "s", [f"{body[0]} exists"])
                return
            self.start(body[0], {name: value for name, (_, value) in body[2]})
            self.job(reply, body[0], "failed" if "refused" in body[0] else "done")
        elif member == "StopUnit":
            if body[0] not in self.units:
                self.bus.send(dbus.ERROR, reply | {dbus.ERROR_NAME: f"{NAME}.NoSuchUnit"}, "s", ["no such unit"])
                return
            os.rmdir(self.units.pop(body[0]))
            self.job(reply, body[0], "done")
        else:
            self.bus.send(dbus.RETURN, reply, "", [])

    def start(self, unit: str, properties: dict[str, Any]) -> None:
        directory = f"{self.root}{units.path_of(properties['Slice'])}/{unit}"
        os.makedirs(directory)
        for pid in properties["PIDs"]:
            with open(f"{directory}/cgroup.procs", "w") as file:
                file.write(str(pid))
        self.units[unit] = directory

    def job(self, reply: dict[int, Any], unit: str, result: str) -> None:
        """Another job's end first, then the answer, then this job's: what a client must tell apart."""
        self.jobs += 1
        path = f"{PATH}/job/{self.jobs}"
        signal = {dbus.PATH: PATH, dbus.INTERFACE: MANAGER, dbus.MEMBER: "JobRemoved"}
        self.bus.send(dbus.SIGNAL, signal, "uoss", [999, f"{PATH}/job/999", "other.service", "failed"])
        self.bus.send(dbus.SIGNAL, signal, "uoss", [self.jobs, path, unit, result])
        self.bus.send(dbus.RETURN, reply, "o", [path])


def main(address: str, root: str, log: TextIO) -> None:
    bus = dbus.Connection(address)
    daemon = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    bus.call(*daemon, "Hello")
    bus.call(*daemon, "RequestName", "su", NAME, 0)
    stub = Stub(bus, root)
    print(json.dumps(["ready"]), file=log, flush=True)
    while True:
        message = bus.receive()
        if message.kind == dbus.CALL:
            print(json.dumps([message.fields[dbus.MEMBER], message.body]), file=log, flush=True)
            stub.answer(message)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], open(sys.argv[3], "w"))
