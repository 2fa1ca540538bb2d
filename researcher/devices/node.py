"""A device as a node of Flower's: `python -m researcher.devices.node SUPERLINK DIRECTORY` answers for one person.

Flower's own `flower-supernode` fetches an app from the SuperLink and runs it, with all that lies on the machine in its
reach: whoever may submit an app could read `readings.json`. This node speaks the same protocol with Flower's own code,
never asks for an app, and gives each message to the `ClientApp` of `researcher.devices.flower` and to no other. It
opens no port. So nothing of a person leaves but what `Device.answer` says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

from flwr.app import Context, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

from policies.errors import DatasiteError, InvalidRequest
from researcher.devices.device import LONGEST_TEXT
from researcher.devices.flower import DIRECTORY, QUERY, client_app
from researcher.devices.process import device_in

POLL = 0.5  # seconds between two looks for a message
MOST_OBJECTS = 16  # of a message: ours has three
LARGEST = 2 * LONGEST_TEXT  # bytes of a message's objects
_FAILED = Error(code=2, reason="This device could not answer.")  # in the same words, whatever went wrong
_NOT_OURS = Error(code=2, reason="This device answers questions of researcher.DeviceReport alone.")


@dataclass(frozen=True)
class Link:
    """What Flower's connection gives, as far as a device uses it: of apps and runs it asks for nothing."""

    node: int
    receive: Any
    send: Any
    pull: Any
    push: Any
    confirm: Any


@contextmanager
def linked(superlink: str, *, ca: Path | None, keys: Any = None) -> Iterator[Link]:
    """Connected to a SuperLink's HOST:PORT: over TLS that `ca` vouches for, or without it where `ca` is None."""
    certificates = None if ca is None else str(ca)
    with http_request_response(superlink, ca is None, certificates, keys) as connection:
        node, receive, send, _get_run, _get_app, pull, push, confirm = connection
        yield Link(node, receive, send, pull, push, confirm)


def serve(link: Link, directory: Path, *, poll: float = POLL) -> None:
    """Answer messages one after the other, until the process is ended."""
    app = client_app()
    while True:
        received = link.receive()
        if received is None:
            time.sleep(poll)
            continue
        head, tree = received
        _reply(link, _answered(link, app, head, tree, directory))


def _answered(link: Link, app: Any, head: Message, tree: Any, directory: Path) -> Message:
    run = head.metadata.run_id
    objects = [part.object_id for part in iterate_object_tree(tree)]
    try:
        if head.metadata.message_type != QUERY or len(objects) > MOST_OBJECTS:
            return Message(_NOT_OURS, reply_to=head)
        contents = pull_objects(objects, pull_object_fn=lambda wanted: link.pull(run, wanted))
        link.confirm(run, head.metadata.message_id)
        if sum(map(len, contents.values())) > LARGEST:
            return Message(_NOT_OURS, reply_to=head)
        message = inflate_object_from_contents(head.metadata.message_id, contents)
        message.metadata.__dict__["_message_id"] = head.metadata.message_id  # which its reply names
        context = Context(run, link.node, {DIRECTORY: str(directory)}, RecordDict(), {}, 0)
        reply: Message = app(message=message, context=context)
        return reply
    except Exception:  # a text of an error could name what lies here
        return Message(_FAILED, reply_to=head)


def _reply(link: Link, reply: Message) -> None:
    run = reply.metadata.run_id
    with no_object_id_recompute():
        reply.metadata.__dict__["_message_id"] = reply.object_id
        objects = {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}
        wanted, session = link.send(reply, get_object_tree(reply), 0.0)  # how long it took is nobody's
        for name in wanted:
            link.push(run, session, name, objects[name])


def main(arguments: list[str] | None = None) -> int:
    """Answer until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m researcher.devices.node", description=(__doc__ or "").strip())
    parser.add_argument("superlink", help="HOST:PORT of the SuperLink")
    parser.add_argument("directory", type=Path, help="of this device alone, with its readings.json")
    parser.add_argument("--budget", type=float, help="ε of the person's whole budget, where there is no ledger yet")
    parser.add_argument("--ca", type=Path, help="certificate (PEM) that vouches for the SuperLink's TLS")
    parser.add_argument("--insecure", action="store_true", help="without TLS: on one machine, to try it")
    parser.add_argument("--key", type=Path, help="this node's private key, where the SuperLink wants to know its nodes")
    given = parser.parse_args(arguments)
    try:
        if (given.ca is None) is not given.insecure:
            raise InvalidRequest("Give either --ca FILE, or --insecure to try it on one machine.")
        device_in(given.directory, budget=given.budget)  # says now what is wrong with it
        keys = _keys(given.key)
        with linked(given.superlink, ca=given.ca, keys=keys) as link:
            print(f"node {link.node} answers as the device in {given.directory}", flush=True)
            serve(link, given.directory)
    except (DatasiteError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _keys(file: Path | None) -> Any:
    """Of a private key in OpenSSH's format, as Flower registers nodes by."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    if file is None:
        return None
    try:
        key = load_ssh_private_key(file.read_bytes(), None)
    except ValueError:
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise InvalidRequest(f"{file} holds no elliptic-curve key. Make one: ssh-keygen -t ecdsa -b 384 -f {file}")
    return key, key.public_key()


if __name__ == "__main__":
    sys.exit(main())
