"""Ask the action service of a datasite for an asset's sides in each role's name, with no entry before it.

Run as `python -m tests.attacks.guard.behind_the_entry DIRECTORY`; prints an answer a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from syft.server.server import AuthServerContextRegistry
from syft.service.action.action_object import TwinMode
from syft.service.context import AuthedServiceContext
from syft.service.user.user_roles import ServiceRole
from syft.types.errors import SyftException
from syft.types.uid import UID

from datasites.datasite import Office
from datasites.settings import Settings


def main() -> None:
    """Ask for the private side as each role, holding the server's own key, and for the mock."""
    with Office.open(Settings.load(Path(sys.argv[1]))) as office:
        asset = UID(office.ledger.datasets.list()[0].assets["records"])
        server = office.syft.server
        for role in (ServiceRole.ADMIN, ServiceRole.DATA_OWNER, ServiceRole.DATA_SCIENTIST):
            context = AuthedServiceContext(server=server, credentials=server.verify_key, role=role)
            AuthServerContextRegistry.set_server_context(server.id, context, server.verify_key)
            try:
                server.services.action.get(context, asset, twin_mode=TwinMode.PRIVATE)
            except SyftException:
                print(f"{role.name}: refused")
            else:
                print(f"{role.name}: given")
        server.services.action.get(context, asset, twin_mode=TwinMode.MOCK)
        print("mock: given")


if __name__ == "__main__":
    main()
