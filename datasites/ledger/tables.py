"""Tables, indexes and triggers of the ledger's SQLite file.

`entries` and `audit` are chained by hash (`chain.py`). Triggers refuse what no code may do: change or delete what can
only be appended to, and lower what was spent.
"""

SCHEMA_VERSION = "6"
_AMOUNTS = """
  {0}divergence_nano INTEGER NOT NULL DEFAULT 0 CHECK ({0}divergence_nano >= 0),
  {0}pure_nano INTEGER NOT NULL DEFAULT 0 CHECK ({0}pure_nano >= 0),
  {0}mixed INTEGER NOT NULL DEFAULT 0 CHECK ({0}mixed >= 0),
  {0}delta_atto INTEGER NOT NULL DEFAULT 0 CHECK ({0}delta_atto >= 0)"""

# Sealed until a request is decided, and so not in the chain, whose length anybody may see; approval's entry names them.
_VOTES = """CREATE TABLE votes (
      seq INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, side TEXT NOT NULL, actor TEXT NOT NULL,
      plan_digest TEXT NOT NULL, at TEXT NOT NULL, UNIQUE (request, side)) STRICT"""

# For one question, at each admission: whether the ledger was put back from a copy and has yet to be accepted.
_RESTORES = "CREATE INDEX restores ON entries (seq) WHERE kind IN ('restore', 'accept')"


def _append_only(*tables: str) -> tuple[str, ...]:
    return tuple(
        f"""CREATE TRIGGER {table}_not_{verb.lower()}d BEFORE {verb} ON {table}
          BEGIN SELECT RAISE(ABORT, '{table} can only be appended to'); END"""
        for table in tables
        for verb in ("UPDATE", "DELETE")
    )


_PROJECTS = (
    # `ends` is a day in UTC, the last one of a project. Who changed it is in the audit log.
    """CREATE TABLE projects (
      id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, parties TEXT NOT NULL, ends TEXT NOT NULL,
      made_at TEXT NOT NULL, closed_at TEXT) STRICT""",
    """CREATE TABLE filed (
      request TEXT PRIMARY KEY REFERENCES requests, project TEXT NOT NULL REFERENCES projects,
      at TEXT NOT NULL) STRICT""",
    "CREATE INDEX filed_by_project ON filed (project)",
    """CREATE TABLE attachments (
      id TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('request', 'project')), object TEXT NOT NULL,
      name TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL) STRICT""",
    "CREATE INDEX attachments_by_object ON attachments (kind, object)",
    *_append_only("attachments"),
)

_ACCOUNTS = (
    # The share of a population's patients that is held out, once no table of it splits them otherwise. While a
    # population has none, every release is charged in both of its accounts.
    """CREATE TABLE splits (
      population TEXT PRIMARY KEY REFERENCES populations, holdout REAL NOT NULL) STRICT""",
    # As `totals`, which is the account of the patients who train: that of the patients who are held out.
    f"""CREATE TABLE held_out_totals (
      population TEXT NOT NULL REFERENCES populations, researcher TEXT NOT NULL,
      {_AMOUNTS.format("spent_")}, {_AMOUNTS.format("reserved_")},
      PRIMARY KEY (population, researcher)) STRICT""",
    """CREATE TRIGGER held_out_spent_never_decreases BEFORE UPDATE ON held_out_totals
      WHEN NEW.spent_divergence_nano < OLD.spent_divergence_nano
      BEGIN SELECT RAISE(ABORT, 'spent never decreases'); END""",
)
_PARTS = (
    # Kept of a population's budget for one project, by the number of the entry that made it. `researchers`, a JSON
    # list, may draw on it; what they have drawn, spent and reserved together, is here of each account.
    f"""CREATE TABLE parts (
      id INTEGER PRIMARY KEY, project TEXT NOT NULL REFERENCES projects,
      population TEXT NOT NULL REFERENCES populations, epsilon REAL NOT NULL, with_training INTEGER NOT NULL,
      researchers TEXT NOT NULL, ended_at TEXT, {_AMOUNTS.format("training_")}, {_AMOUNTS.format("held_out_")})
      STRICT""",
    "CREATE UNIQUE INDEX one_part ON parts (population, project) WHERE ended_at IS NULL",
    # Which requests were approved out of a part; written once, with the approval.
    """CREATE TABLE drawn (
      request TEXT PRIMARY KEY REFERENCES requests, part INTEGER NOT NULL REFERENCES parts) STRICT""",
    *_append_only("drawn"),
)
_TOTALS = ", ".join(
    f"{what}_{name}"
    for what in ("spent", "reserved")
    for name in ("divergence_nano", "pure_nano", "mixed", "delta_atto")
)
# What was charged before there were two accounts counts in both.
_CARRIED_OVER = f"INSERT INTO held_out_totals SELECT population, researcher, {_TOTALS} FROM totals"

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    # Changed only with an entry: capacity in nano-nats, δ in 1e-18; see budgets.py for their meaning.
    """CREATE TABLE populations (
      name TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL, "order" INTEGER NOT NULL,
      conversion_nano INTEGER NOT NULL, capacity_nano INTEGER NOT NULL, delta_capacity_atto INTEGER NOT NULL) STRICT""",
    # Running totals: of a population where researcher is '', else of that researcher's share in it.
    f"""CREATE TABLE totals (
      population TEXT NOT NULL REFERENCES populations, researcher TEXT NOT NULL, limit_epsilon REAL,
      {_AMOUNTS.format("spent_")}, {_AMOUNTS.format("reserved_")},
      PRIMARY KEY (population, researcher)) STRICT""",
    """CREATE TABLE datasets (
      version TEXT PRIMARY KEY, name TEXT NOT NULL, population TEXT NOT NULL REFERENCES populations,
      schema_json TEXT NOT NULL, patients INTEGER, size_kind TEXT NOT NULL, assets_json TEXT NOT NULL,
      status TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX one_published_version ON datasets (name) WHERE status = 'published'",
    """CREATE TABLE requests (
      id TEXT PRIMARY KEY, function TEXT NOT NULL, researcher TEXT NOT NULL, dataset TEXT NOT NULL,
      version TEXT NOT NULL, population TEXT REFERENCES populations, source TEXT NOT NULL, plan_json TEXT,
      plan_digest TEXT, findings_json TEXT NOT NULL, purpose TEXT NOT NULL, syft_json TEXT NOT NULL,
      by_owner INTEGER NOT NULL, status TEXT NOT NULL, rounds INTEGER NOT NULL,
      attempts INTEGER NOT NULL, open_runs INTEGER NOT NULL CHECK (open_runs >= 0), charge_json TEXT,
      submitted_at TEXT NOT NULL, changed_at TEXT NOT NULL, expires_at TEXT,
      CHECK (attempts + open_runs <= rounds)) STRICT""",
    "CREATE INDEX requests_by_status ON requests (status, submitted_at)",
    """CREATE TABLE runs (
      id TEXT PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, round INTEGER NOT NULL,
      weights_digest TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, changed_at TEXT NOT NULL,
      reason TEXT) STRICT""",
    "CREATE INDEX runs_by_request ON runs (request, round)",
    "CREATE INDEX open_runs ON runs (status) WHERE status IN ('reserved', 'running')",
    # At most one live run of a round, whatever the code above it does.
    """CREATE UNIQUE INDEX one_live_run ON runs (request, round)
      WHERE status IN ('reserved', 'running', 'released')""",
    """CREATE TABLE releases (
      run TEXT PRIMARY KEY REFERENCES runs, request TEXT NOT NULL, round INTEGER NOT NULL, at TEXT NOT NULL,
      digest TEXT NOT NULL, certificate TEXT NOT NULL, bytes BLOB NOT NULL, UNIQUE (request, round)) STRICT""",
    """CREATE TABLE comments (
      seq INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, at TEXT NOT NULL, actor TEXT NOT NULL,
      text TEXT NOT NULL) STRICT""",
    "CREATE INDEX comments_by_request ON comments (request)",
    _VOTES,
    f"""CREATE TABLE entries (
      seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, population TEXT,
      request TEXT, run TEXT, {_AMOUNTS.format("")}, details TEXT NOT NULL, prev TEXT NOT NULL,
      hash TEXT NOT NULL) STRICT""",
    "CREATE INDEX entries_by_request ON entries (request) WHERE request IS NOT NULL",
    "CREATE INDEX entries_by_population ON entries (population) WHERE population IS NOT NULL",
    _RESTORES,
    """CREATE TABLE audit (
      seq INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, object TEXT NOT NULL,
      details TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL) STRICT""",
    """CREATE TRIGGER spent_never_decreases BEFORE UPDATE ON totals
      WHEN NEW.spent_divergence_nano < OLD.spent_divergence_nano
      BEGIN SELECT RAISE(ABORT, 'spent never decreases'); END""",
    *_append_only("entries", "audit", "releases", "comments", "votes"),
    *_PROJECTS,
    *_ACCOUNTS,
    *_PARTS,
)

UPGRADES: dict[str, tuple[str, ...]] = {
    "3": (*_PROJECTS, *_ACCOUNTS, _CARRIED_OVER, *_PARTS),
    "4": (*_ACCOUNTS, _CARRIED_OVER, *_PARTS),
    "5": _PARTS,
}
"""What a file of an earlier version lacks; 0.1.0, the first that was released, wrote "3"."""
