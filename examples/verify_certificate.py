"""Certificates checked offline, with nothing of the hospital's: `researcher verify` does the same in a shell.

python examples/verify_certificate.py first-study
"""

import sys
from pathlib import Path

from policies.errors import CertificateRefused
from policies.release.certificates import verify

directory = Path(sys.argv[1] if len(sys.argv) > 1 else "first-study")  # what result.save(...) wrote
certificates = sorted((directory / "releases").glob("*.certificate.json"))
if not certificates:
    raise SystemExit(
        f"{directory}/releases holds no certificates. Run first_study.py first, or name another directory."
    )

for path in certificates:
    release = Path(str(path).replace(".certificate.json", ".safetensors"))
    # Checked: the form, the signature, ε recomputed from the declared mechanism, and the digest of the release.
    # With public_key="..." from the hospital itself it also shows who signed; without, only that nothing was changed.
    certificate = verify(path.read_text(), release=release.read_bytes())
    privacy = certificate["privacy"]
    print(f"{path.name}: {certificate['datasite']}, round {certificate['round']} of {certificate['rounds']}")
    print(f"  ε = {privacy['epsilon']:.3f} at δ = {privacy['delta']:g} for all rounds by themselves")
    print(f"  entry {certificate['ledger']['entry']} of its ledger, signed by {certificate['public_key'][:16]}…")

# Nothing in a certificate can be changed unnoticed.
text = certificates[0].read_text()
forged = text.replace('"round":1', '"round":2', 1)
try:
    verify(forged)
except CertificateRefused as refusal:
    print(f"Changed by one digit: {refusal}")
