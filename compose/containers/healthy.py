"""Whether the service in this container answers: exit code 0 where it does. For the health checks of compose.yaml.

python3 healthy.py https://NAME:PORT/PATH [CA_FILE]      status 200 over TLS, certificate checked
python3 healthy.py unix:PATH                             a Unix socket accepts
"""

import socket
import ssl
import sys
import urllib.request

address, *authority = sys.argv[1:]
if address.startswith("unix:"):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        probe.connect(address.removeprefix("unix:"))
else:
    context = ssl.create_default_context(cafile=authority[0] if authority else None)
    # What stays in the hospital goes through no proxy, whatever the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(address, timeout=5) as answer:
        sys.exit(answer.status != 200)
