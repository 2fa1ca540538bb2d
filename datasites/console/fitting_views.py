"""The page of which waiting requests fit into the budget together, and what each of them would leave."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from datasites.console.page_requests import PageRequest
from policies.errors import DatasiteError

SETS = ("by_age", "most_together")
SHORT = 12  # characters of an id in an address


def fit(visit: PageRequest) -> Response:
    """Each population's waiting requests in the order of age; and what a choice of them would leave.

    A choice comes with the address: `?pick=` for each request, or `?choose=` one of `SETS` of a `?population=`.
    """
    populations = visit.act("waiting")
    chosen, why = _chosen(visit, populations), ""
    tried: list[dict[str, Any]] = []
    if chosen:
        try:
            tried = visit.act("try_approvals", requests=chosen)
        except DatasiteError as error:
            why = error.public_message
    return visit.render(
        "fit.html",
        populations=populations,
        tried=tried,
        why=why,
        picked={request["id"] for choice in tried for request in choice["requests"]},
        short=SHORT,
    )


def _chosen(visit: PageRequest, populations: list[dict[str, Any]]) -> list[str]:
    choose = visit.query("choose")
    if choose in SETS:
        wanted = visit.query("population")
        return [name for found in populations if found["population"] == wanted for name in found[choose]]
    return [name[:64] for name in visit.request.query_params.getlist("pick")[:1000]]
