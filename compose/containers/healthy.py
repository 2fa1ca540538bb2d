"""Whether the service in this container answers: exit code 0 where it does. For the health checks of compose.yaml.

python3 healthy.py https://NAME:PORT/PATH [CA_FILE]      status 200 over TLS, certificate checked
python3 healthy.py unix:PATH                             a Unix socket accepts
python3 healthy.py tcp:PORT                              a port of this machine accepts
python3 healthy.py dialled:DIRECTORY                     a dial-out says that it is connected
"""

import json
import pathlib
import socket
import ssl
import sys
import urllib.request

address, *authority = sys.argv[1:]
if address.startswith("unix:"):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        probe.connect(address.removeprefix("unix:"))
elif address.startswith("tcp:"):
    socket.create_connection(("localhost", int(address.removeprefix("tcp:"))), timeout=5).close()
elif address.startswith("dialled:"):
    states = [json.loads(path.read_text()) for path in pathlib.Path(address.removeprefix("dialled:")).glob("*.json")]
    sys.exit(not any(state["state"] == "connected" for state in states))
else:
    context = ssl.create_default_context(cafile=authority[0] if authority else None)
    # What stays in the hospital goes through no proxy, whatever the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(address, timeout=5) as answer:
        sys.exit(answer.status != 200)
