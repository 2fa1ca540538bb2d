"""State diagrams of a code request and of a run, drawn from the transition tables that the ledger obeys."""

from __future__ import annotations

from policies.source.statuses import REQUEST_TRANSITIONS, RUN_TRANSITIONS, STATUS_TEXT


def requests() -> str:
    """A Mermaid state diagram: who may move a request where; then what a researcher reads of each status."""
    first = next(iter(REQUEST_TRANSITIONS))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for status, followers in REQUEST_TRANSITIONS.items():
        for follower, parties in followers.items():
            lines.append(f"    {status} --> {follower}: {' or '.join(sorted(parties))}")
        if not followers:
            lines.append(f"    {status} --> [*]")
    lines += ["```", "", "| status | what its researcher reads |", "| --- | --- |"]
    lines += [f"| `{status}` | {text} |" for status, text in STATUS_TEXT.items()]
    return "\n".join(lines)


def runs() -> str:
    """A Mermaid state diagram of one run of an approved request."""
    first = next(iter(RUN_TRANSITIONS))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for status, followers in RUN_TRANSITIONS.items():
        lines += [f"    {status} --> {follower}" for follower in sorted(followers)] or [f"    {status} --> [*]"]
    return "\n".join([*lines, "```"])
