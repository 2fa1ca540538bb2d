"""The network in containers, from the machine that runs them: start it, run the study on it, stop it.

    python3 compose/containers.py up | study [--secure-aggregation] | down [--volumes]

`up` builds the images and starts everything. `study` does what the owners do in `make demo`, through each hospital's
own `datasite` command: publish, give the researcher an account, approve what passes every check; the researcher's half
runs in the researcher's container and sees nothing else, and with `--secure-aggregation` nothing of the joint model's
hospitals but their mean. It needs Docker with Compose and Python's own library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("compose.yaml")
RESEARCHER = "researcher@university.example"
STUDY = ("python3", "-m", "compose.study_run", "--directory", "/home/researcher/flu-2026")
STUDY_IN_SUMS = (*STUDY[:-1], "/home/researcher/flu-2026-in-sums", "--secure-aggregation")
DATABASE = "postgresql+psycopg://reader@database/hospital?sslmode=verify-full&sslrootcert=/secrets/ca.pem"
START_SECONDS = 300
# What each owner publishes: a file of the hospital's own volume, or a query of the hospital's database.
TABLES = {
    "general": ("/tables/flu.csv",),
    "paediatric": ("/tables/flu.csv",),
    "rural": ("--sql", "SELECT * FROM visits", "--database", DATABASE, "--password-file", "/secrets/database.password"),
}


DIALS_OUT = ("paediatric",)  # without a way in


class ContainersFailed(Exception):
    """A command failed; the message holds what it said."""


@dataclass(frozen=True)
class Containers:
    """One network of containers, by its Compose project; several may run beside each other."""

    project: str = "datasites"

    def command(self, *words: str) -> list[str]:
        """`docker compose` with these words, for this network."""
        return ["docker", "compose", "-p", self.project, "-f", str(FILE), *words]

    def compose(self, *words: str, check: bool = True, quiet: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` with these words. Raises `ContainersFailed`."""
        done = subprocess.run(self.command(*words), capture_output=quiet, text=True, stdin=subprocess.DEVNULL)
        if check and done.returncode:
            said = ((done.stderr or "") + (done.stdout or "")).strip()[-4000:]
            raise ContainersFailed(f"docker compose {' '.join(words)} failed. {said}")
        return done

    def build(self, *, quiet: bool = False) -> None:
        """Build the images."""
        self.compose("build", quiet=quiet)

    def up(self, *services: str, quiet: bool = False) -> None:
        """Start everything, or some services, and wait until all of it answers."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(START_SECONDS), *services, quiet=quiet)

    def down(self, *, volumes: bool = False) -> None:
        """Stop and remove the containers; with `volumes`, everything that they kept too."""
        self.compose("down", "--timeout", "20", *(["--volumes"] if volumes else []))

    def run(self, service: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container."""
        return self.compose("exec", "-T", service, *words, check=check)

    def owner(self, hospital: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `datasite` command as a hospital's owner."""
        return self.run(hospital, "datasite", *words, check=check)

    def ask(self, hospital: str, *words: str) -> Any:
        """The same with `--json`, read."""
        return json.loads(self.owner(hospital, *words, "--json").stdout)

    def introduce(self) -> None:
        """Have the owners whose hospitals dial out read the words of their datasites' keys to the researcher."""
        for hospital in DIALS_OUT:
            words = str(self.ask(hospital, "status")["words"])
            self.run("researcher", "python3", "-m", "compose.introduce", hospital, *words.split())

    def publish(self, hospital: str) -> bool:
        """Publish a hospital's table and make the researcher's account, where that is still to do; whether it was."""
        if self.ask(hospital, "datasets")["datasets"]:
            return False
        self.owner(
            hospital, "researchers", "add", RESEARCHER, "--name", "Demo Researcher",
            "--password-file", "/secrets/researcher.password", check=False,
        )  # fmt: skip
        self.owner(hospital, "publish", *TABLES[hospital], "--schema", "/tables/flu.toml", "--count-epsilon", "0.1")
        return True

    def approve_all(self, hospital: str) -> int:
        """Approve what waits for a hospital's owner; how many."""
        done = self.owner(hospital, "requests", "--status", "checked", "--json", check=False)
        waiting = json.loads(done.stdout) if done.returncode == 0 else []  # a hospital that is away decides later
        if waiting:
            self.owner(hospital, "approve", *(str(request["id"]) for request in waiting), "--yes", check=False)
        return len(waiting)

    def begin(self, service: str, *words: str, output: int | None = None) -> subprocess.Popen[str]:
        """Start a command in a service's container; what it writes goes to `output`, and to the terminal without."""
        command = self.command("exec", "-T", service, *words)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output and subprocess.STDOUT, text=True
        )


def study(network: Containers, *, secure_aggregation: bool = False) -> int:
    """The whole study: owners publish and approve, the researcher trains; the researcher's exit code."""
    network.introduce()
    for hospital in TABLES:
        print(f"{hospital}: {'published' if network.publish(hospital) else 'had published'}", flush=True)
    running = network.begin("researcher", *(STUDY_IN_SUMS if secure_aggregation else STUDY))
    while running.poll() is None:
        for hospital in TABLES:
            approved = network.approve_all(hospital)
            if approved:
                print(f"{hospital}: its owner approved {approved} requests", flush=True)
        time.sleep(2)
    return running.returncode


def addresses() -> str:
    """Where a browser on this machine finds everything, and how its passwords are read."""
    port, notebook = os.environ.get("GATEWAY_PORT", "9443"), os.environ.get("NOTEBOOK_PORT", "9444")
    consoles = "\n".join(f"  https://{name}.localhost:{port}" for name in TABLES if name not in DIALS_OUT)
    exec_ = f"docker compose -f {FILE} exec"
    return (
        f"Consoles, for their owners (owner@<hospital>.example):\n{consoles}\n"
        f"  password: {exec_} general cat /secrets/owner.password\n"
        f"{', '.join(DIALS_OUT)} opens no port and dials out; its owner works there:\n"
        f"  commands: {exec_} {DIALS_OUT[0]} datasite status\n"
        f"Notebook: https://localhost:{notebook}\n"
        f"  token:    {exec_} researcher cat /secrets/jupyter.token\n"
        f"Their authority, for your browser: {exec_} gateway cat /secrets/ca.pem"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a word says; exit code 0 where it worked."""
    parser = argparse.ArgumentParser(description="The network in containers.")
    parser.add_argument("act", choices=("up", "study", "down"))
    parser.add_argument("--volumes", action="store_true", help="down: remove what the hospitals keep, too")
    parser.add_argument(
        "--secure-aggregation", action="store_true", help="study: read nothing of the joint model but the mean"
    )
    chosen = parser.parse_args(arguments)
    network = Containers()
    try:
        if chosen.act == "up":
            network.build()
            network.up()
            network.introduce()
            print(addresses())
        elif chosen.act == "study":
            return study(network, secure_aggregation=chosen.secure_aggregation)
        else:
            network.down(volumes=chosen.volumes)
    except (ContainersFailed, FileNotFoundError) as error:
        print(f'{error}\nDocker with Compose is needed; see docs/operators.md, "In containers".', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
