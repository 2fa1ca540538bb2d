"""`python -m docs.generator`: write every generated part anew, and say which files changed."""

from __future__ import annotations

from docs.generator import ROOT, documents, written

for document in documents():
    before = document.read_text(encoding="utf-8")
    after = written(before)
    if after != before:
        document.write_text(after, encoding="utf-8")
        print(f"Wrote {document.relative_to(ROOT)}.")
