"""Environments of their own for what cannot be installed beside this package: `researcher environments`.

TensorFlow Privacy trains with TensorFlow 2.15 alone, which needs another protobuf than Flower and PySyft do. It gets a
virtual environment in the user's data directory, of packages pinned by their hashes (`tf-privacy.lock`), and is spoken
to by files and lines of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from policies.errors import InvalidRequest

LOCK = Path(__file__).with_name("tf-privacy.lock")
NAME = "tf-privacy"
PYTHON = (3, 11)
SETUP = "researcher environments setup-tf-privacy"
_DONE = "installed.json"
_CHECK = "import tensorflow, tensorflow_privacy.privacy.optimizers.dp_optimizer_keras;print(tensorflow.version.VERSION)"
_STARTED = re.compile(r"^(?:Collecting|Processing) (\S+)")


def data_directory() -> Path:
    """Where this user's programs keep what they install; `XDG_DATA_HOME` says another."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "private-datasites"


def locked_packages() -> dict[str, str]:
    """Version by package, as the lock pins them."""
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split()[0].split("==") for line in lines)


def place() -> Path:
    """The environment's directory, which another lock would have elsewhere."""
    return data_directory() / "environments" / f"{NAME}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"


def tf_privacy() -> Path:
    """Python of the environment. Raises `InvalidRequest`, saying how to make it, where there is none."""
    python = place() / "bin" / "python"
    if not (place() / _DONE).exists() or not python.exists():
        raise InvalidRequest(
            f"framework='tensorflow' trains in an environment of its own, which is not there. Make it once: {SETUP}"
            " (about 300 MB to download, 1.5 GB on disk). framework='keras' trains the same model without it."
        )
    return python


def set_up_tf_privacy(
    say: Callable[[str], None], *, wheels: Path | None = None, python: str | None = None
) -> tuple[Path, str]:
    """Make the environment, and say what is installed meanwhile; at once where it is there.

    Args:
      wheels: a directory of wheels to install from, without asking a network.
      python: the Python 3.11 to make it with; the one that runs this, or `python3.11`, if None.

    Returns:
      Its directory, and TensorFlow's version as it says itself.

    Raises:
      InvalidRequest: no Python 3.11, another system than Linux on x86-64, or pip's own last words.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise InvalidRequest(
            f"TensorFlow 2.15 with these hashes is for Linux on x86-64, and this is {platform.system()} on"
            f" {platform.machine()}. Train with framework='keras', which needs no TensorFlow."
        )
    if wheels is not None and not wheels.is_dir():
        raise InvalidRequest(f"--wheels {wheels} is no directory. Fill one: {_download_command(Path('wheels'))}")
    where = place()
    if not (where / _DONE).exists():
        base = _python(python)
        if where.exists():  # an installation that was cut off
            shutil.rmtree(where)
        where.parent.mkdir(parents=True, exist_ok=True)
        say(f"making {where}")
        _run([base, "-m", "venv", str(where)], lambda line: None)
        _install(where, say, wheels)
    version = _version(where)
    (where / _DONE).write_text(json.dumps({"tensorflow": version, "packages": locked_packages()}), encoding="utf-8")
    return where, version


def _python(given: str | None) -> str:
    """A Python 3.11, by asking it. Raises `InvalidRequest`."""
    wanted = ".".join(map(str, PYTHON))
    candidates = [given] if given else [sys.executable, shutil.which(f"python{wanted}")]
    for candidate in candidates:
        if candidate and _says(candidate, "import sys; print('%d.%d' % sys.version_info[:2])") == wanted:
            return candidate
    tried = f"--python {given} is none" if given else "none was found"
    raise InvalidRequest(
        f"TensorFlow Privacy's last TensorFlow runs on Python {wanted} or older, and {tried}. Install Python {wanted}"
        f" and say where: {SETUP} --python /path/to/python{wanted}"
    )


def _says(python: str, code: str) -> str:
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(where: Path) -> str:
    version = _says(str(where / "bin" / "python"), _CHECK).splitlines()
    if not version:
        shutil.rmtree(where)
        raise InvalidRequest("TensorFlow was installed and does not import here; the environment was removed again.")
    return version[-1]


def _download_command(wheels: Path) -> str:
    return f"pip download --no-deps --require-hashes --python-version 3.11 -r {LOCK} -d {wheels}"


def _install(where: Path, say: Callable[[str], None], wheels: Path | None) -> None:
    packages = locked_packages()
    seen: set[str] = set()

    def told(line: str) -> None:
        found = _STARTED.match(line.strip())
        if found is None:
            if line.startswith("Installing"):
                say(f"installing {len(packages)} packages")
            return
        name = next((name for name in packages if _named(name) in _named(found[1])), "")
        if name and name not in seen:
            seen.add(name)
            say(f"{len(seen)} of {len(packages)}: {name} {packages[name]}")

    offline = ["--no-index", "--find-links", str(wheels)] if wheels is not None else []
    command = [
        *(str(where / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-input"),
        *("--only-binary", ":all:", "--disable-pip-version-check", "--progress-bar", "off", *offline, "-r", str(LOCK)),
    ]
    try:
        _run(command, told)
    except InvalidRequest as refused:
        shutil.rmtree(where)
        raise InvalidRequest(
            f"{refused} Nothing is left of it. Without a network, download elsewhere:"
            f" {_download_command(Path('wheels'))} and then {SETUP} --wheels wheels"
        ) from None


def _named(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package.rpartition("/")[2]).lower()


def _run(command: list[str], told: Callable[[str], None]) -> None:
    """Run a program to its end, line by line. Raises `InvalidRequest` with its last words where it fails."""
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            last = line.strip() if line.strip().startswith("ERROR") or not last.startswith("ERROR") else last
            told(line)
    if running.returncode:
        raise InvalidRequest(f"{Path(command[0]).name} ended with {running.returncode}: {last[:300]}.")
