# tries: List what can be called with a key of no account.
# must: refused
from syft.protocol.data_protocol import get_data_protocol


def attack(site):
    asked = {"verify_key": str(site.key("nobody").verify_key), "communication_protocol": get_data_protocol().latest_version}
    answer = site.http("GET", "/api", params=asked)
    return answer.status_code == 200 and len(answer.content) > 1000
