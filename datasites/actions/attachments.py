"""PDF files attached to a request or a project, such as an ethics approval or a data use agreement.

They are kept as they are, in the datasite's directory under random names, and never read or rendered: whoever opens one
does it on their own machine, with the care that a file from outside needs. Name, size and SHA-256 are in the ledger and
in the audit log, and a file that has changed on disk is not handed out.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.files import write_private
from datasites.people.roles import CONSOLE, OWNER, Actor
from policies.errors import InvalidRequest, Unavailable

MAGIC = b"%PDF-"  # the first bytes of every PDF file
LONGEST_NAME = 100


@action(OWNER)
def attach(
    datasite: Datasite, actor: Actor, *, file: str, name: str, request: str = "", project: str = ""
) -> dict[str, Any]:
    """Attach a PDF file to a request or a project.

    Args:
      file: path of the file as it is read here.
      name: what people call it; it never becomes a path.

    Raises:
      InvalidRequest: it is no PDF, too large, or cannot be read.
      WrongStatus: there are as many attachments already as there may be.
    """
    if bool(request) == bool(project):
        raise InvalidRequest("Name either a request or a project to attach the file to.")
    kind = "request" if request else "project"
    object = datasite.submissions.find(request).id if request else datasite.ledger.projects.find(project).id
    content = _read(Path(file), datasite.settings.attachment_mib << 20)
    digest, id = hashlib.sha256(content).hexdigest(), datasite.ledger.attachments.new_id()
    path = _path(datasite, id)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, content)
    try:
        kept = datasite.ledger.attachments.add(
            id, kind, object, name=_shown(name), size=len(content), digest=digest, actor=actor.name,
            most=datasite.settings.most_attachments,
        )  # fmt: skip
    except BaseException:
        path.unlink()
        raise
    datasite.audit_log.record(actor.name, "attach", object, name=kept.name, sha256=digest, bytes=kept.size)
    return asdict(kept)


@action(CONSOLE)
def attachment(datasite: Datasite, actor: Actor, *, id: str) -> dict[str, Any]:
    """One attachment with its `content` in base64.

    Raises `Unavailable` where the file is missing, or is not the one that was attached.
    """
    kept = datasite.ledger.attachments.get(id)
    try:
        content = _path(datasite, kept.id).read_bytes()
    except OSError:
        raise Unavailable(f"The file of {kept.name} is missing. Put it back from a backup.") from None
    if not is_unchanged(content, kept.digest):
        raise Unavailable(f"The file of {kept.name} is not the one that was attached. Put it back from a backup.")
    return {**asdict(kept), "content": base64.b64encode(content).decode()}


def is_unchanged(content: bytes, digest: str) -> bool:
    """Whether a file's bytes are those whose SHA-256 the ledger has."""
    return hashlib.sha256(content).hexdigest() == digest


def _path(datasite: Datasite, id: str) -> Path:
    return datasite.settings.attachments / f"{id}.pdf"


def _read(path: Path, largest: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe keeps nobody waiting
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidRequest(f"{path.name} is no regular file. Attach a PDF file.")
            content = file.read(largest + 1)
    except OSError as error:
        raise InvalidRequest(f"The file cannot be read: {error.strerror}.") from None
    if len(content) > largest:
        raise InvalidRequest(
            f"The file is larger than {largest >> 20} MiB (setting attachment_mib). Attach a smaller one."
        )
    if not content.startswith(MAGIC):
        raise InvalidRequest("The file is no PDF: it does not begin with %PDF-. Export it as PDF and attach that.")
    return content


def _shown(name: str) -> str:
    """A file's name as text: letters and digits of any language and a few marks, whatever a browser sent."""
    shown = "".join(sign if sign.isalnum() or sign in "._ ()-" else "_" for sign in Path(name).name).strip(" ._")
    stem = shown[:-4] if shown.lower().endswith(".pdf") else shown
    return f"{stem[: LONGEST_NAME - 4] or 'attachment'}.pdf"
