"""How the command line shows what an action answered: plain data in, tables out. No decision is made here.

Everything that a researcher chose is text: never markup, hidden characters by name (`policies.text`), lines its own.
"""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from policies.numbers import counted, written
from policies.privacy.risk import alone_and_together
from policies.text import visible

PATIENTS = {"training": "patients who train", "held_out": "patients held out"}


def datasets(out: Console, value: dict[str, Any]) -> None:
    """Published datasets, then the budgets of their populations."""
    if not value["datasets"]:
        out.print("Nothing is published yet. Draft a schema with `datasite schema data.csv`, then `datasite publish`.")
    else:
        names = ("name", "version", "population", "patients", "size_kind", "status")
        _table(out, "Datasets", names, value["datasets"])
    balances(out, value["populations"])


def publication_report(out: Console, value: dict[str, Any]) -> None:
    """What publishing noticed about a table: notes, then concerns with what to do."""
    for note in value["notes"]:
        out.print(Text(f"Note: {visible(note)}"))
    for concern in value["concerns"]:
        out.print(Text(f"Look at this: {visible(concern['what'])}", style="yellow"))
        out.print(Padding(Text(visible(concern["advice"])), (0, 0, 0, 2)))


def balances(out: Console, populations: list[dict[str, Any]]) -> None:
    """Budgets of populations: ε in total, spent, reserved and left."""
    if populations:
        names = ("population", "epsilon", "delta", "order", "epsilon_spent", "epsilon_reserved", "epsilon_remaining")
        _table(out, "Budgets", names, populations)
        accounts = [
            {"population": budget["population"], **account} for budget in populations for account in budget["accounts"]
        ]
        if accounts:
            columns = ("population", "patients", "epsilon_spent", "epsilon_reserved", "epsilon_remaining")
            rows = [{**account, "patients": PATIENTS[account["patients"]]} for account in accounts]
            _table(out, "Of those who train and of those who are held out", columns, rows)
        parts = [part for budget in populations for part in budget["parts"]]
        if parts:
            _parts(out, parts)
        for budget in populations:
            if budget["year"]:
                out.print(f"{budget['population']}: {_year(budget['year'])}")
            if budget["epsilon_remaining_with_training"] < budget["epsilon_remaining"]:
                out.print(
                    f"{budget['population']}: what remains is for statistics and evaluations. Once a model is trained,"
                    f" it is ε = {budget['epsilon_remaining_with_training']:.3f}, as δ is then turned into ε."
                )


def _parts(out: Console, parts: list[dict[str, Any]]) -> None:
    """What is reserved for projects."""
    columns = ("population", "project", "epsilon", "epsilon_left", "for", "researchers")
    rows = [
        {
            **part,
            "for": "anything" if part["with_training"] else "statistics, evaluations",
            "researchers": ", ".join(part["researchers"]),
        }
        for part in parts
    ]
    _table(out, "Reserved for projects", columns, rows)


def _year(year: dict[str, Any]) -> str:
    """This year's part in a sentence."""
    rest = "what is left is added to the next year's" if year["carries_over"] else "what is left lapses"
    return (
        f"{year['year']} may add ε = {year['part']:.3f} and has added {year['epsilon_added']:.3f};"
        f" {year['epsilon_left']:.3f} is left. The next year opens on {year['next_opens']} (UTC); {rest}."
    )


def waiting(out: Console, value: list[dict[str, Any]]) -> None:
    """Waiting requests of each population with what approving them by age would leave, and sets that fit."""
    if not value:
        out.print("Nothing waits for a decision.")
    fit(out, value)
    for population in value:
        most, ids = population["most_together"], population["by_age"]
        if len(most) > len(ids):
            out.print(f"By age {len(ids)} of them fit; {_as_many(population)}:")
            out.print(f"  datasite approve {' '.join(name[:8] for name in most)}")
        elif ids:
            out.print(f"Those that fit, by age ({_as_many(population)}):")
            out.print(f"  datasite approve {' '.join(name[:8] for name in ids)}")
        if population["waiting"] > len(population["requests"]):
            left_out = population["waiting"] - len(population["requests"])
            out.print(f"Looked at were the oldest; {counted(left_out, 'younger request')} of it are left out.")


def _as_many(population: dict[str, Any]) -> str:
    number = len(population["most_together"])
    if population["is_largest"]:
        return f"{number} fit together and no set of more does"
    return f"{number} fit together, the most that was found"


def fit(out: Console, value: list[dict[str, Any]]) -> None:
    """Requests one after the other, with what approving each would leave."""
    for population in value:
        balance, year = population["balance"], population["balance"]["year"]
        left = f"ε = {balance['epsilon_remaining']:.3f} of {written(balance['epsilon'])} is left"
        this_year = f", {year['epsilon_left']:.3f} of it in {year['year']}" if year else ""
        out.print(f"{population['population']}: {left}{this_year}", style="bold")
        names = ("id", "function", "researcher", "draws_on", "added", "left", *(["this_year"] if year else []), "fits")
        rows = [
            {
                **request,
                "id": request["id"][:8],
                "this_year": request["left_this_year"],
                "fits": "yes" if request["fits"] else "not with those before" if request["alone"] else "no",
                "draws_on": request["draws_on"] or "—",
            }
            for request in population["requests"]
        ]
        _table(out, "If they are approved in this order", names, rows)
        for request in population["requests"]:
            if request["why"]:
                out.print(f"  {request['id'][:8]}: {request['why']}")


def researchers(out: Console, value: list[dict[str, Any]]) -> None:
    """Accounts of researchers."""
    if value:
        _table(out, "Researchers", ("email", "name", "institution", "state"), value)
    else:
        out.print("No researcher has an account yet. Make one with `datasite researchers add EMAIL --name NAME`.")


def invitations(out: Console, value: list[dict[str, Any]]) -> None:
    """Invitations that wait to be used."""
    if value:
        _table(out, "Invitations", ("email", "name", "institution", "ends"), value)
    else:
        out.print("No invitation is open. Make one with `datasite researchers invite EMAIL --name NAME`.")


def projects(out: Console, value: list[dict[str, Any]]) -> None:
    """Projects, the newest first."""
    if value:
        rows = [{**project, "status": _standing(project)} for project in value]
        _table(out, "Projects", ("name", "parties", "ends", "status", "filed", "approved"), rows)
    else:
        out.print("No project yet. Make one with `datasite projects make NAME --parties WHO --ends 2027-06-30`.")


def _standing(project: dict[str, Any]) -> str:
    return "closed" if project["closed_at"] else "ended" if project["ended"] else "goes on"


def requests(out: Console, value: list[dict[str, Any]]) -> None:
    """Code requests, waiting ones first."""
    if not value:
        out.print("No requests.")
        return
    names = ("id", "status", "researcher", "function", "dataset", "mechanism", "epsilon", "rounds", "submitted_at")
    _table(out, "Requests", names, [{**each, "id": each["id"][:8]} for each in value])
    waiting = [each["id"][:8] for each in value if each["status"] == "checked"]
    if waiting:
        out.print(f"{len(waiting)} wait for you. Read one with `datasite show {waiting[0]}`.")


def request(out: Console, value: dict[str, Any]) -> None:
    """One request as the owner decides on it."""
    out.print(f"Request {value['id'][:8]} · {value['status']}", style="bold")
    fields = (("from", "researcher"), ("function", "function"), ("dataset", "dataset"), ("purpose", "purpose"))
    for label, name in fields:
        out.print(Text(f"  {label:9} {visible(value[name] or '—')}"))
    _lines(out, "What it does", value["summary"])
    _lines(out, "Risk, in plain words", value["risk"])
    if value["cost"]:
        _cost(out, value["cost"])
        _more_budgets(out, value["budgets"])
    if value["shared_noise"]:
        _lines(out, "Shared noise", shared_lines(value["shared_noise"], value["id"]))
    marks = [f"{'✓' if each['passed'] else '✗'} {each['title']}: {each['message']}" for each in value["checks"]]
    _lines(out, "Checks", marks)
    _lines(out, "What it did on the mock", trial_lines(value["trial"]) if value["plan"] else [])
    _lines(out, "Findings", [f"line {each['line']}: {each['text']}: {each['why']}" for each in value["findings"]])
    out.print("Source", style="bold")
    for number, line in enumerate(value["source"].splitlines(), 1):
        out.print(Text(f"{number:4} {visible(line)}"))
    _lines(out, "Difference from the last approved request of this name", value["difference"])
    _lines(out, "Comments", [f"{_when(each['at'])} {each['actor']}: {each['text']}" for each in value["comments"]])
    _lines(out, "Rounds", [f"round {each['round']}: {each['status']} {each['owner_note']}" for each in value["rounds"]])


def shared_lines(value: dict[str, Any], request: str) -> list[str]:
    """Both ε of shared noise, and how the lesser one is accepted."""
    both = [
        f"ε = {value['epsilon_if_not']:.2f} is charged where nothing is accepted: it holds whatever the hospitals do.",
        f"ε = {value['epsilon']:.2f} is charged where this sentence is accepted:",
        f"  {value['sentence']}",
    ]
    if value["accepted"]:
        return [*both, "It was accepted when this request was approved."]
    if value["why_not"]:
        return [*both, "It cannot be accepted:", *(f"  {line}" for line in value["why_not"])]
    return [
        *both,
        "To accept it, for this request alone:",
        f"  datasite approve {request[:8]} --accept {value['acceptance']}",
    ]


def _more_budgets(out: Console, budgets: list[dict[str, Any]]) -> None:
    """This year's part and what is reserved for the request's project, where there are such."""
    for budget in budgets:
        figures = (
            f"ε = {budget['spent_before']:.3f} before, {budget['spent_after']:.3f} after, of {budget['epsilon']:.3f}"
        )
        if budget["whose"] == "year":
            short = "" if budget["fits"] else f" — does not fit, short by {budget['short']:.3f}"
            out.print(f"  what {budget['name']} may add: {figures}{short}")
        elif budget["whose"] == "project":
            out.print(f"  reserved for {budget['name']}: {figures} drawn")


def trial_lines(value: dict[str, Any] | None) -> list[str]:
    """What a request did on the mock, or that it was not tried."""
    if value is None:
        return ["It was not run on the mock yet. `datasite try` does it."]
    return [*value["lines"], *value.get("failed", "").splitlines()]


def trial(out: Console, value: dict[str, Any]) -> None:
    """What a request did on the mock."""
    _lines(out, "What it did on the mock", trial_lines(value))


def releases(out: Console, value: list[dict[str, Any]]) -> None:
    """What left, and to whom."""
    if value:
        names = ("request", "round", "function", "researcher", "dataset", "released_at", "bytes", "digest")
        _table(
            out,
            "Releases",
            names,
            [{**each, "request": each["request"][:8], "digest": each["digest"][:12]} for each in value],
        )
    else:
        out.print("Nothing has left this datasite.")


def runs(out: Console, value: dict[str, Any]) -> None:
    """Rounds, newest first."""
    if value["stopped"]:
        out.print("All work is stopped. `datasite resume` lets it go on.")
    if value["runs"]:
        names = ("id", "function", "researcher", "dataset", "round", "status", "began", "seconds", "reason")
        _table(out, "Rounds", names, value["runs"])
    else:
        out.print("Nothing has run yet.")


def what_if(out: Console, value: dict[str, Any]) -> None:
    """How many more requests like one fit."""
    whose = f" of the {PATIENTS[value['patients']]}" if value["patients"] != "all" else ""
    out.print(f"In what is left{whose} fit {counted(value['fits'], 'request')} like {value['function']}.", markup=False)
    if value["project"]:
        out.print(f"  with what is reserved for {value['project']}")
    if value["year"]:
        out.print(f"  {value['year']['year']} admits {value['year']['fits']} of them. {_year(value['year'])}")
    for many, epsilon in enumerate(value["after"], 1):
        out.print(f"  after {many}: ε = {epsilon:.3f} of {written(value['budget'])}")


def console_users(out: Console, value: list[dict[str, Any]]) -> None:
    """Accounts of the console."""
    if value:
        _table(out, "Accounts of the console", ("email", "name", "role", "state"), value)
    else:
        out.print("No account yet. Make one with `datasite console-users add EMAIL --role second_reviewer`.")


def ledger(out: Console, value: dict[str, Any]) -> None:
    """Balances, then the newest entries."""
    balances(out, value["balances"])
    if value["entries"]:
        names = ("seq", "at", "kind", "population", "request", "run", "divergence", "epsilon_added", "actor")
        short = [
            {**each, **{name: (each[name] or "—")[:8] for name in ("request", "run")}} for each in value["entries"]
        ]
        _table(out, f"Last {len(short)} entries", names, short)
        out.print(
            "Releases add up as Rényi divergences (nats) at the budget's order, one number that was fixed with δ; δ is"
            " turned into ε once for all of them. ε added is what an entry added to the ε of all before it."
        )
    out.print(f"Head: {value['head']}")


def audit_log(out: Console, value: list[dict[str, Any]]) -> None:
    """Who did what."""
    _table(out, "Audit log", ("seq", "at", "who", "what", "object", "details"), value)


def status(out: Console, value: dict[str, Any]) -> None:
    """Whether it serves, the words of its key, and its connections to coordinators."""
    out.print(f"{value['name']} {'serves' if value['serving'] else 'does not serve'} at {value['url']}.")
    for holds, sentence in (
        (value["stopped"], "The owner has stopped all work; `datasite resume` lets it go on."),
        (value["restored"], "It was restored from a copy, and admits nothing until `datasite accept-restored`."),
    ):
        if holds:
            out.print(sentence)
    out.print(f"Words of its key, for researchers who reach it through a coordinator:\n  {value['words']}")
    for connection in value["dial_out"]:
        reason = f": {connection['reason']}" if connection["reason"] else ""
        out.print(
            f"Coordinator {connection['coordinator']}: {connection['state']} since {connection['since']}{reason}."
            f" {counted(connection['calls'], 'call')}, {counted(connection['losses'], 'connection')} lost."
        )
    jobs_elsewhere(out, value["jobs"])


def jobs_elsewhere(out: Console, value: list[dict[str, Any]]) -> None:
    """Machines elsewhere that run jobs, and whether they can be used."""
    for each in value:
        told = each["reason"] or (
            f"The {each['kind']} at {each['address']} answers in {1000 * each['seconds']:.1f} ms (version"
            f" {each['version']})."
        )
        out.print(told)


def key(out: Console, value: dict[str, Any]) -> None:
    """Keys in words, with whose they are."""
    for hospital in value["hospitals"]:
        out.print(f"{hospital['name']}{', this datasite' if hospital['own'] else ''}: key {hospital['digits']} …")
        out.print(f"  {hospital['words']}", markup=False)
    if len(value["hospitals"]) > 1:
        out.print(
            "Call each of the others by a number that you know otherwise, and have its owner read what `datasite key`"
            " prints there. A hospital whose twelve words are others, or that nobody answers for, is none: deny it."
        )
    if not any(hospital["own"] for hospital in value["hospitals"]):
        out.print("None of these is this datasite's key. It was changed since, or the roster names another datasite.")


def isolation(out: Console, value: dict[str, bool]) -> None:
    """Protections of jobs on this host."""
    for name, holds in value.items():
        out.print(f"{'✓' if holds else '✗'} {name.replace('_', ' ')}", style="green" if holds else "red")


def _cost(out: Console, cost: dict[str, Any]) -> None:
    out.print("Cost", style="bold")
    added = cost["spent_after"] - cost["spent_before"]
    alone = cost["pld_epsilon"] if cost["delta"] else cost["epsilon"]
    out.print(f"  {alone_and_together(alone, added)}", markup=False)
    out.print(
        f"  alone ε = {alone:.3f} at δ = {written(cost['delta'])} for {counted(cost['rounds'], 'release')}"
        + (f", noise multiplier {cost['noise_multiplier']:.3f}" if cost["noise_multiplier"] else "")
        + (f"; {cost['epsilon']:.3f} by the divergences that the ledger adds up" if cost["delta"] else "")
    )
    out.print(
        f"  the population's ε: {cost['spent_before']:.3f} before, {cost['spent_after']:.3f} after, "
        f"of {cost['budget']:.3f}" + ("" if cost["fits"] else f" — does not fit, short by {cost['short']:.3f}")
    )


def _lines(out: Console, title: str, lines: list[str]) -> None:
    if lines:
        out.print(title, style="bold")
        for line in lines:
            out.print(Text(f"  {visible(line)}"))


def _table(out: Console, title: str, names: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """A table, or where the terminal is too narrow for it, a paragraph for each row: no value is broken or left out."""
    labels = [
        each.removesuffix("_at").replace("epsilon_", "ε ").replace("epsilon", "ε").replace("_", " ") for each in names
    ]
    cells = [[_when(row[name]) if _is_time(name) else _text(row.get(name)) for name in names] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(labels, *cells, strict=True)]
    width = sum(widths) + 3 * len(widths) + 1
    if out.is_terminal and width > out.width:
        out.print(title, style="bold")
        for line in cells:
            _paragraph(out, labels, line)
        return
    out.width = max(width, out.width)  # a file or a pipe is as wide as it needs to be
    table = Table(title=title, title_justify="left", title_style="bold")
    for label in labels:
        table.add_column(label, no_wrap=True)
    for line in cells:
        table.add_row(*map(Text, line))
    out.print(table)


def _paragraph(out: Console, labels: list[str], cells: list[str]) -> None:
    """The first cell, then the others with their labels on as many lines as they need."""
    out.print(Text(cells[0], style="bold"))
    lines: list[str] = []
    for item in (f"{label} {cell}" for label, cell in zip(labels[1:], cells[1:], strict=True)):
        longer = f"{lines[-1]} · {item}" if lines else ""
        if longer and cell_len(longer) + 2 <= out.width:
            lines[-1] = longer
        else:
            lines.append(item)
    for line in lines:
        out.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 2)))


def _is_time(name: str) -> bool:
    return name == "at" or name.endswith("_at")


def _when(value: str) -> str:
    """A UTC time to the second, in a table's width."""
    return visible(value[:19].replace("T", " "))


def _text(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items()) or "—"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.001 else written(value)
    return visible(str(value))
