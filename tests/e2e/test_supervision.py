"""What a monitor does beyond carrying output: restarts, health checks, init, and what becomes of a container without one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("root", "linux", "netns")


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """What `condition` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)
    return found


def state(mini: Mini, name: str) -> dict[str, Any]:
    found: dict[str, Any] = mini.inspect(name)["State"]
    return found


def test_on_failure_restarts_so_many_times(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--restart", "on-failure:2", host_image.name, "sh", "-c", "echo life; exit 4")
    until(lambda: state(mini, name)["Status"] == "exited")
    found = mini.inspect(name)
    assert (found["RestartCount"], found["State"]["ExitCode"]) == (2, 4)
    assert mini.run("logs", name).lines == ["life"] * 3


def test_always_is_ended_by_stop_and_kept_by_kill_of_another_signal(mini: Mini, host_image: Image) -> None:
    script = "trap 'exit 3' USR1; while :; do sleep 0.05; done"
    name = mini.detached("--restart", "always", host_image.name, "sh", "-c", script)
    first = state(mini, name)["Pid"]
    mini.run("kill", "-s", "USR1", name)
    second = until(lambda: (s := state(mini, name))["Status"] == "running" and s["Pid"] != first and s["Pid"])
    assert second
    address = mini.address(name)
    assert address
    mini.run("stop", "-t", "1", name)
    time.sleep(0.4)
    assert state(mini, name)["Status"] == "exited"


def test_stop_while_it_waits_for_its_restart(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--restart", "always", host_image.name, "false")
    until(lambda: mini.inspect(name)["RestartCount"] >= 4)
    until(lambda: state(mini, name)["Status"] == "restarting")
    assert mini.run("ps", "--format", "{{.Status}}").out.startswith("Restarting (1)")
    mini.run("stop", name)
    assert state(mini, name)["Status"] == "exited"


def test_restart_and_rm_exclude_each_other(mini: Mini, host_image: Image) -> None:
    done = mini.run("run", "--rm", "--restart", "always", host_image.name, "true", check=False)
    assert (done.code, done.stdout) == (125, "")
    assert "conflicting options: cannot specify both --restart and --rm" in done.stderr


def test_health_and_wait(mini: Mini, host_image: Image) -> None:
    check = ["--health-cmd", "test -f /ok && echo fine", "--health-interval", "100ms", "--health-retries", "2"]
    check += ["--health-start-period", "20s"]
    script = "sleep 0.3; echo > /ok; sleep 60"
    name = mini.run("run", "-d", "--wait", *check, host_image.name, "sh", "-c", script, timeout=30).out
    found = state(mini, name)["Health"]
    assert (found["Status"], found["FailingStreak"]) == ("healthy", 0)
    assert found["Log"][-1]["Output"] == "fine\n"
    assert "(healthy)" in mini.run("ps").out
    mini.run("exec", name, "rm", "/ok")
    until(lambda: state(mini, name)["Health"]["Status"] == "unhealthy")
    assert len(state(mini, name)["Health"]["Log"]) <= 5


def test_wait_tells_that_it_will_never_be_ready(mini: Mini, host_image: Image) -> None:
    done = mini.run("run", "-d", "--wait", "--name", "unready", "--health-cmd", "echo why; false", "--health-interval",
                    "50ms", "--health-retries", "1", host_image.name, "sleep", "60", check=False)  # fmt: skip
    assert done.code != 0
    assert "container unready is unhealthy: why" in done.stderr
    done = mini.run(
        "run", "-d", "--wait", "--name", "ended", "--health-cmd", "true", host_image.name, "false", check=False
    )
    assert "container ended is exited with exit code 1" in done.stderr


def test_a_check_that_takes_too_long_is_ended(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--health-cmd", "sleep 50", "--health-interval", "50ms", "--health-timeout", "100ms",
                         "--health-retries", "1", host_image.name, "sleep", "60")  # fmt: skip
    until(lambda: state(mini, name)["Health"]["Status"] == "unhealthy")
    entry = state(mini, name)["Health"]["Log"][-1]
    assert (entry["ExitCode"], entry["Output"]) == (-1, "Health check exceeded timeout (0.1s)")


@pytest.mark.parametrize(("action", "status"), [("kill", "exited"), ("stop", "exited"), ("restart", "running")])
def test_unhealthy_has_a_consequence(mini: Mini, host_image: Image, action: str, status: str) -> None:
    name = mini.detached("--health-cmd", "test ! -e /bad || test -e /again", "--health-interval", "100ms",
                         "--health-retries", "1", "--health-on-failure", action, "--stop-timeout", "1", host_image.name,
                         "sh", "-c", "! test -e /bad || echo > /again; echo > /bad; sleep 60")  # fmt: skip
    if status == "exited":
        until(lambda: state(mini, name)["Status"] == "exited")
    else:
        until(lambda: mini.inspect(name)["RestartCount"] >= 1 and state(mini, name)["Health"]["Status"] == "healthy")


def test_a_probe_that_ends_with_its_container_says_nothing(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--health-cmd", "sleep 60", "--health-interval", "50ms", "--health-retries", "1",
                         "--health-on-failure", "restart", host_image.name, "sh", "-c", "sleep 1; exit 3")  # fmt: skip
    until(lambda: state(mini, name)["Status"] == "exited")
    found = mini.inspect(name)
    assert (found["RestartCount"], found["State"]["ExitCode"], found["State"]["Health"]["Log"]) == (0, 3, [])


def test_a_probe_that_is_due_when_its_container_has_ended(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--health-cmd", "true", "--health-interval", "200ms", host_image.name, "sleep", "60")
    pid = state(mini, name)["Pid"]
    monitor = mini.monitor(name)
    os.kill(monitor, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    os.kill(monitor, signal.SIGCONT)
    until(lambda: state(mini, name)["Status"] == "exited")
    assert (state(mini, name)["ExitCode"], state(mini, name)["Error"]) == (137, "")


def test_unhealthy_while_it_is_stopped(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--health-cmd", "test ! -e /bad", "--health-interval", "50ms", "--health-retries", "1",
                         "--health-on-failure", "restart", host_image.name,
                         "sh", "-c", "trap 'echo > /bad' TERM; while :; do sleep 0.05; done")  # fmt: skip
    mini.run("exec", name, "true")
    mini.run("stop", "-t", "2", name)
    found = mini.inspect(name)
    assert (found["State"]["Status"], found["State"]["Health"]["Status"], found["RestartCount"]) == (
        "exited", "unhealthy", 0)  # fmt: skip


def test_init_reaps_and_passes_signals_on(mini: Mini, host_image: Image) -> None:
    name = mini.detached("--init", host_image.name, "sleep", "60")
    comm = mini.run("exec", name, "cat", "/proc/1/comm").out
    assert comm == "mini-init"
    mini.run("exec", name, "sh", "-c", "sh -c 'sleep 0.1 & exec true'")
    time.sleep(0.3)
    zombies = mini.run("exec", name, "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status", check=False)
    assert zombies.stdout == ""
    mini.run("stop", name)
    assert state(mini, name)["ExitCode"] == 143
    assert mini.run("run", "--rm", "--init", host_image.name, "sh", "-c", "exit 7", check=False).code == 7
    assert mini.run("run", "--rm", "--init", host_image.name, "nosuch", check=False).code == 127


def test_a_container_does_not_outlive_its_monitor(mini: Mini, host_image: Image) -> None:
    name = mini.detached("-u", "1234", host_image.name, "sleep", "60")
    pid = state(mini, name)["Pid"]
    os.kill(mini.monitor(name), signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    found = state(mini, name)
    assert (found["Status"], found["ExitCode"], found["Pid"]) == ("exited", 137, 0)
    assert "monitor was killed" in found["Error"]
    mini.run("start", name)
    assert state(mini, name)["Running"]
    # one that failed by itself has written why
    with open(f"{mini.root}/containers/{name}/monitor.log", "w") as file:
        file.write("Traceback\n\nValueError: of its own\n")
    os.kill(mini.monitor(name), signal.SIGKILL)
    until(lambda: not state(mini, name)["Running"])
    assert "monitor has failed" in state(mini, name)["Error"] and "ValueError: of its own" in state(mini, name)["Error"]
    mini.run("start", name)
    # and its next run begins anew
    assert state(mini, name)["Running"] and not state(mini, name)["Error"] and not mini.failures()


def test_system_start_brings_back_what_its_policy_says(mini: Mini, host_image: Image) -> None:
    """A reboot ends every process at once: the same, done to the monitors."""
    policies = {"p-no": "no", "p-always": "always", "p-unless": "unless-stopped", "p-stopped": "unless-stopped"}
    for name, policy in policies.items():
        mini.run("run", "-d", "--name", name, "--restart", policy, host_image.name, "sleep", "60")
    mini.run("stop", "-t", "0", "p-stopped")
    monitored = ("p-no", "p-always", "p-unless")
    pids = [state(mini, name)["Pid"] for name in monitored]
    for name in monitored:
        os.kill(mini.monitor(name), signal.SIGKILL)
    until(lambda: not [pid for pid in pids if os.path.exists(f"/proc/{pid}")])
    assert sorted(mini.run("system", "start").lines) == ["p-always", "p-unless"]
    assert mini.run("system", "start").out == ""
    running = set(mini.run("ps", "--format", "{{.Names}}").lines)
    assert running == {"p-always", "p-unless"}
