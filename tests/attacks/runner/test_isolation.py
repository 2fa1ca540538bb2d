"""Every protection by trying what it forbids, with every layer in place and with one layer alone behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from datasites.jobs.isolation import PROTECTIONS
from tests.attacks.runner.confined import ATTACKS, LAYERS

# What stands behind each refusal. Where several do, each is seen to be enough by itself. For setuid programs and for
# forks the user stays another than root: limits on processes bind nobody else.
BEHIND = {
    "tcp": "calls namespaces landlock",
    "udp": "calls namespaces",
    "unix": "calls user",
    "abstract": "calls namespaces landlock",
    "families": "calls",
    "read_own": "calls landlock user",
    "read_any": "calls landlock",
    "create": "calls landlock",
    "look": "calls",
    "process_files": "calls landlock user",
    "own_descriptors": "calls landlock",
    "fork": "calls limits",
    "thread": "calls limits",
    "execute": "calls landlock limits",
    "setuid_program": "calls limits privileges",
    "kill_parent": "calls landlock user",
    "kill_sibling": "calls landlock",
    "signal_by_file": "calls landlock",
    "limit_sibling": "calls",
    "clock_of_sibling": "calls",
    "processors_of_sibling": "calls",
    "memory_of_parent": "calls landlock user",
    "trace_parent": "calls landlock user",
    "become_root": "calls user",
    "raise_limit": "calls user",
    "capabilities": "calls user",
    "unshare": "calls",
    "private_memory": "limits",
    "shared_memory": "limits",
    "locked_memory": "calls limits",
    "many_files": "limits",
    "write_file": "limits",
    "processor": "limits",
}
ALSO_OUT = {"setuid_program": {"landlock"}}  # Landlock needs no_new_privs
ALONE = {name: behind.split() for name, behind in BEHIND.items()}
CASES = [(name, layer) for name, layers in ALONE.items() for layer in layers if len(layers) > 1]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Taking layers out one by one needs root.")


@cache
def tried(who: str, without: frozenset[str], attacks: tuple[str, ...]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.runner.confined", who, ",".join(sorted(without)), ",".join(attacks)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def out_of(name: str, kept: str | None = None) -> frozenset[str]:
    """The layers to take out so that `kept` alone, or nothing, stands behind the refusal of an attack."""
    return frozenset({*ALONE[name], *ALSO_OUT.get(name, ())} - {kept})


def groups() -> dict[frozenset[str], list[str]]:
    """Sets of layers to take out, with the attacks to try without them: one program does many."""
    found: dict[frozenset[str], list[str]] = {frozenset(): list(ATTACKS)}
    for name, layers in ALONE.items():
        for kept in [None, *(layers if len(layers) > 1 else [])]:
            found.setdefault(out_of(name, kept), []).append(name)
    return found


GROUPS = groups()


def result(name: str, without: frozenset[str], who: str = "root") -> dict[str, Any]:
    return dict(tried(who, without, tuple(GROUPS[without]))[name])


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_that_is_forbidden_succeeds(name: str) -> None:
    assert result(name, frozenset())["achieved"] == ""


@pytest.mark.parametrize("who", ["root-helper", "user-helper"])
def test_a_thread_that_helps_is_refused_all_of_it_too(who: str) -> None:
    attacks = tuple(name for name in ATTACKS if who == "root-helper" or name not in ("setuid_program", "unix"))
    for name, found in tried(who, frozenset(), attacks).items():
        assert found["achieved"] == "", name
        assert found["holds"] == {**dict.fromkeys(PROTECTIONS, True), "own_user": who == "root-helper"}, name


# Of what each thread of Linux has of its own: limits bind a user's processes, credentials and Landlock a thread.
OF_A_THREAD = [("execute", "limits"), ("fork", "limits"), ("tcp", "landlock"), ("kill_parent", "user")]


@pytest.mark.parametrize(("name", "layer"), OF_A_THREAD)
def test_one_layer_alone_is_enough_for_a_thread_that_helps(name: str, layer: str) -> None:
    assert result(name, out_of(name, layer), "root-helper")["achieved"] == ""
    assert result(name, out_of(name), "root-helper")["achieved"] != ""


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_one_layer_alone_is_enough(name: str, layer: str) -> None:
    assert result(name, out_of(name, layer))["achieved"] == ""


@pytest.mark.parametrize("name", BEHIND)
def test_without_its_layers_the_attack_succeeds(name: str) -> None:
    possible = name != "raise_limit" or resource_rights()  # where root itself may not raise limits, nobody can
    assert (result(name, out_of(name))["achieved"] != "") == possible


def resource_rights() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, the 24th."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("CapEff"))
    return bool(int(line.split()[1], 16) >> 24 & 1)


def test_every_protection_holds_on_this_host_and_is_said_to() -> None:
    assert result("tcp", frozenset())["holds"] == dict.fromkeys(PROTECTIONS, True)


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - {"landlock", "namespaces"}))
def test_a_missing_layer_is_reported(layer: str) -> None:
    holds = tried("root", frozenset({layer}), ("capabilities",))["capabilities"]["holds"]
    named = {
        "calls": "system_calls",
        "user": "own_user",
        "limits": "limits",
        "privileges": "no_new_privileges",
    }
    # The filter's loader sets no_new_privs as well: it takes both away to see it missing.
    if layer == "privileges":
        holds = tried("root", frozenset({layer, "calls"}), ("capabilities",))["capabilities"]["holds"]
    assert not holds[named[layer]]


def test_a_user_without_rights_confines_as_well_and_says_what_is_missing() -> None:
    attacks = tuple(name for name in ATTACKS if name not in ("setuid_program", "unix"))
    for name, found in tried("user", frozenset(), attacks).items():
        assert found["achieved"] == "", name
        assert found["holds"] == {**dict.fromkeys(PROTECTIONS, True), "own_user": False}, name


@pytest.mark.parametrize("who", ["root", "root-helper"])
def test_a_call_by_another_table_ends_the_process(who: str) -> None:
    found = result("other_table", frozenset(), who)
    assert found["signal"] == 31 or not found["achieved"]  # SIGSYS


def test_a_job_that_computes_for_ever_is_ended_by_the_kernel() -> None:
    assert result("processor", frozenset())["signal"] == 9
