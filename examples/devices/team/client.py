"""What a stock SuperNode would run, with --node-config 'device="DIRECTORY"'. `researcher.devices.node` needs no app."""

from researcher.devices.flower import client_app

app = client_app()
