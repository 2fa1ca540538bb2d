BEGIN TRANSACTION;
CREATE TABLE audit (
      seq INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, object TEXT NOT NULL,
      details TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
INSERT INTO "audit" VALUES(1,'2026-01-01T00:00:00.000000+00:00','owner','login','','{}','2ef9b5f6f16b1ff836407af932990c776124ad5b83c2a7fc28585c42afb60df6','54c188cafc80d38f648f9aad5c18a884bea8e6baa7c2a288998ceb4e258e8e32');
CREATE TABLE comments (
      seq INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, at TEXT NOT NULL, actor TEXT NOT NULL,
      text TEXT NOT NULL) STRICT;
INSERT INTO "comments" VALUES(1,'request-3','2026-01-01T00:00:00.000000+00:00','rita@uni.example','Another one comes.');
CREATE TABLE datasets (
      version TEXT PRIMARY KEY, name TEXT NOT NULL, population TEXT NOT NULL REFERENCES populations,
      schema_json TEXT NOT NULL, patients INTEGER, size_kind TEXT NOT NULL, assets_json TEXT NOT NULL,
      status TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
INSERT INTO "datasets" VALUES('v1','flu','city','{}',1000,'declared','{}','published','2026-01-01T00:00:00.000000+00:00');
CREATE TABLE entries (
      seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, population TEXT,
      request TEXT, run TEXT, 
  divergence_nano INTEGER NOT NULL DEFAULT 0 CHECK (divergence_nano >= 0),
  pure_nano INTEGER NOT NULL DEFAULT 0 CHECK (pure_nano >= 0),
  mixed INTEGER NOT NULL DEFAULT 0 CHECK (mixed >= 0),
  delta_atto INTEGER NOT NULL DEFAULT 0 CHECK (delta_atto >= 0), details TEXT NOT NULL, prev TEXT NOT NULL,
      hash TEXT NOT NULL) STRICT;
INSERT INTO "entries" VALUES(1,'2026-01-01T00:00:00.000000+00:00','population','owner','city',NULL,NULL,0,0,0,0,'{"capacity_nano":5481849404,"conversion_nano":518150596,"delta":"1e-05","delta_capacity_atto":0,"epsilon":"6.0","order":16}','f3f79f4afafcb04e464200928491cd6a2e22e1699792988e6835e210bc925d94','3571a36fd457c81aadc1af7d2d193d281fbac36087f3221e5b5a63184a698919');
INSERT INTO "entries" VALUES(2,'2026-01-01T00:00:00.000000+00:00','publication','owner','city',NULL,NULL,0,0,0,0,'{"name":"flu","patients":1000,"schema_sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size_kind":"declared","version":"v1"}','3571a36fd457c81aadc1af7d2d193d281fbac36087f3221e5b5a63184a698919','d8df3776d866f26ee97cc205cd49048d4d883a3317db15c4fc3331210883c1c7');
INSERT INTO "entries" VALUES(3,'2026-01-01T00:00:00.000000+00:00','submit','rita@uni.example','city','request-1',NULL,0,0,0,0,'{"function":"flu_2026","plan_digest":null,"researcher":"rita@uni.example","source_sha256":"85df3b858a02ae3262479789e4303d77e5bffc1c5b791e531a67de2fa4632edf","status":"submitted","version":"v1"}','d8df3776d866f26ee97cc205cd49048d4d883a3317db15c4fc3331210883c1c7','ecb18e2eaed147a250fb2d286d8a4d9b275b08577e34ee03e81bfd7245ca6c9d');
INSERT INTO "entries" VALUES(4,'2026-01-01T00:00:00.000000+00:00','status','datasite','city','request-1',NULL,0,0,0,0,'{"before":"submitted","plan_digest":"plan","status":"checked"}','ecb18e2eaed147a250fb2d286d8a4d9b275b08577e34ee03e81bfd7245ca6c9d','d53ee3fcd09d2114da013ee9147a72f93e31bc298d4e81d1866a1442db632e1e');
INSERT INTO "entries" VALUES(5,'2026-01-01T00:00:00.000000+00:00','reserve','owner','city','request-1',NULL,300000000,0,3,0,'{"expires_at":"2026-01-31T00:00:00.000000+00:00","once":{"delta_atto":0,"divergence_nano":100000000,"mixed":1,"pure_nano":0},"plan_digest":"plan","plan_sha256":"39d18238af966c65e48993fa535d7a733b595306d37dfe8cef9c0817268c8725","researcher":"rita@uni.example","rounds":3,"status":"approved"}','d53ee3fcd09d2114da013ee9147a72f93e31bc298d4e81d1866a1442db632e1e','095335265550792802b80489f716f18f5ee044c553b132a85c110bd4dd039111');
INSERT INTO "entries" VALUES(6,'2026-01-01T00:00:00.000000+00:00','admit','datasite','city','request-1','467aac1a749148d0b38f74245ac66558',0,0,0,0,'{"round":1,"weights_digest":"w"}','095335265550792802b80489f716f18f5ee044c553b132a85c110bd4dd039111','18b0b48c596dbe87aa503776a7cf88f4fa620ff8aaae5358ab3acb0eda507179');
INSERT INTO "entries" VALUES(7,'2026-01-01T00:00:00.000000+00:00','start','datasite','city','request-1','467aac1a749148d0b38f74245ac66558',0,0,0,0,'{}','18b0b48c596dbe87aa503776a7cf88f4fa620ff8aaae5358ab3acb0eda507179','c4384185cb2c0ca658873f26d00591c56370c7133ede492e3626eb310fec5e0d');
INSERT INTO "entries" VALUES(8,'2026-01-01T00:00:00.000000+00:00','settle','datasite','city','request-1','467aac1a749148d0b38f74245ac66558',100000000,0,1,0,'{"bytes_sha256":"c40ffd4b1da7805cbba7f81a2f97c3ef3aa9d1455588357845a94165683a9c23","release_digest":"digest-1"}','c4384185cb2c0ca658873f26d00591c56370c7133ede492e3626eb310fec5e0d','819f017659246d3dfcc6478942515be7e6255ae4abe575bf2b007461f35ee41d');
INSERT INTO "entries" VALUES(9,'2026-01-01T00:00:00.000000+00:00','submit','rita@uni.example','city','request-2',NULL,0,0,0,0,'{"function":"flu_2026","plan_digest":null,"researcher":"rita@uni.example","source_sha256":"85df3b858a02ae3262479789e4303d77e5bffc1c5b791e531a67de2fa4632edf","status":"submitted","version":"v1"}','819f017659246d3dfcc6478942515be7e6255ae4abe575bf2b007461f35ee41d','5f2f410ff38e622240ee6f89d0cd33dcfb0d640e6067dae063aa0bfc338caf0d');
INSERT INTO "entries" VALUES(10,'2026-01-01T00:00:00.000000+00:00','status','datasite','city','request-2',NULL,0,0,0,0,'{"before":"submitted","plan_digest":"814540cf0e720b3f559e4c7960d6ca3ae737c140b40295a01e4362dea27e31ed","status":"checked"}','5f2f410ff38e622240ee6f89d0cd33dcfb0d640e6067dae063aa0bfc338caf0d','70f660d41ea65d66d634f53ae6bca89b5550167fcf76cfefab21a1b96bb51cfb');
INSERT INTO "entries" VALUES(11,'2026-01-01T00:00:00.000000+00:00','reserve','owner','city','request-2',NULL,200000000,0,2,0,'{"expires_at":"2026-01-31T00:00:00.000000+00:00","once":{"delta_atto":0,"divergence_nano":100000000,"mixed":1,"pure_nano":0},"plan_digest":"814540cf0e720b3f559e4c7960d6ca3ae737c140b40295a01e4362dea27e31ed","plan_sha256":"814540cf0e720b3f559e4c7960d6ca3ae737c140b40295a01e4362dea27e31ed","researcher":"rita@uni.example","rounds":2,"status":"approved","votes":[{"actor":"owner","at":"2026-01-01T00:00:00.000000+00:00","side":"owner"},{"actor":"rev@hospital.example","at":"2026-01-01T00:00:00.000000+00:00","side":"second_reviewer"}]}','70f660d41ea65d66d634f53ae6bca89b5550167fcf76cfefab21a1b96bb51cfb','ada1e0af58ec653f916e5e6e382a0c3ddd5e38537df3fc2acecb62c62e4f8c34');
INSERT INTO "entries" VALUES(12,'2026-01-01T00:00:00.000000+00:00','submit','rita@uni.example','city','request-3',NULL,0,0,0,0,'{"function":"flu_2026","plan_digest":null,"researcher":"rita@uni.example","source_sha256":"85df3b858a02ae3262479789e4303d77e5bffc1c5b791e531a67de2fa4632edf","status":"submitted","version":"v1"}','ada1e0af58ec653f916e5e6e382a0c3ddd5e38537df3fc2acecb62c62e4f8c34','05bc391ededebf405324b5a018e8257bd64a5000550ed7ffc2480506a1087889');
INSERT INTO "entries" VALUES(13,'2026-01-01T00:00:00.000000+00:00','status','rita@uni.example','city','request-3',NULL,0,0,0,0,'{"before":"submitted","status":"withdrawn"}','05bc391ededebf405324b5a018e8257bd64a5000550ed7ffc2480506a1087889','66400bda1f7e31b9ed662e4d0b0bda976fe56ef5b4e57c5269750efbf30b25b5');
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO "meta" VALUES('schema_version','3');
INSERT INTO "meta" VALUES('ledger','fb0d75ebf24f179dd3a5d656b0ca1dc0');
CREATE TABLE populations (
      name TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL, "order" INTEGER NOT NULL,
      conversion_nano INTEGER NOT NULL, capacity_nano INTEGER NOT NULL, delta_capacity_atto INTEGER NOT NULL) STRICT;
INSERT INTO "populations" VALUES('city',6.0,1.0e-05,16,518150596,5481849404,0);
CREATE TABLE releases (
      run TEXT PRIMARY KEY REFERENCES runs, request TEXT NOT NULL, round INTEGER NOT NULL, at TEXT NOT NULL,
      digest TEXT NOT NULL, certificate TEXT NOT NULL, bytes BLOB NOT NULL, UNIQUE (request, round)) STRICT;
INSERT INTO "releases" VALUES('467aac1a749148d0b38f74245ac66558','request-1',1,'2026-01-01T00:00:00.000000+00:00','digest-1','{"certificate": true}',X'72656C656173652031');
CREATE TABLE requests (
      id TEXT PRIMARY KEY, function TEXT NOT NULL, researcher TEXT NOT NULL, dataset TEXT NOT NULL,
      version TEXT NOT NULL, population TEXT REFERENCES populations, source TEXT NOT NULL, plan_json TEXT,
      plan_digest TEXT, findings_json TEXT NOT NULL, purpose TEXT NOT NULL, syft_json TEXT NOT NULL,
      by_owner INTEGER NOT NULL, status TEXT NOT NULL, rounds INTEGER NOT NULL,
      attempts INTEGER NOT NULL, open_runs INTEGER NOT NULL CHECK (open_runs >= 0), charge_json TEXT,
      submitted_at TEXT NOT NULL, changed_at TEXT NOT NULL, expires_at TEXT,
      CHECK (attempts + open_runs <= rounds)) STRICT;
INSERT INTO "requests" VALUES('request-1','flu_2026','rita@uni.example','flu','v1','city','def flu_2026(): ...','{"function":"flu_2026"}','plan','[]','','{}',0,'approved',3,1,0,'{"delta_atto":0,"divergence_nano":100000000,"mixed":1,"pure_nano":0}','2026-01-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00','2026-01-31T00:00:00.000000+00:00');
INSERT INTO "requests" VALUES('request-2','flu_2026','rita@uni.example','flu','v1','city','def flu_2026(): ...','{"dataset":"flu","declared":{"clipping_norm":1.0,"delta":1e-05,"epsilon":2.0,"inputs":"features","kind":"dp_sgd","learning_rate":0.5,"loss":"cross_entropy","momentum":0.0,"noise_multiplier":null,"optimizer":"sgd","proximal_mu":0.0,"rounds":5,"sampling_rate":0.1,"steps":40,"weight_decay":0.0},"function":"flu_2026","graph":{"input_shape":[3],"nodes":[["n0","permute",[{"parameter":"layer.weight"},[1,0]],[["float32",[3,2]]]],["n1","addmm",[{"parameter":"layer.bias"},{"ref":"record"},{"ref":"n0"},1,1],[["float32",[1,2]]]]],"output":"n1","output_shape":[2],"parameters":[["layer.weight",[2,3],"float32"],["layer.bias",[2],"float32"]]},"mechanism":{"clipping_norm":1.0,"delta":1e-05,"epsilon":null,"inputs":"features","kind":"dp_sgd","learning_rate":0.5,"loss":"cross_entropy","momentum":0.0,"noise_multiplier":3.238,"optimizer":"sgd","proximal_mu":0.0,"rounds":5,"sampling_rate":0.1,"steps":40,"weight_decay":0.0},"model":"FluPredictor","source_sha256":"5555555555555555555555555555555555555555555555555555555555555555","version":"v1"}','814540cf0e720b3f559e4c7960d6ca3ae737c140b40295a01e4362dea27e31ed','[{"code": "import", "line": 1, "column": 8, "text": "os", "why": "It reaches the host.", "instead": "Leave it out."}]','','{}',0,'approved',2,0,0,'{"delta_atto":0,"divergence_nano":100000000,"mixed":1,"pure_nano":0}','2026-01-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00','2026-01-31T00:00:00.000000+00:00');
INSERT INTO "requests" VALUES('request-3','flu_2026','rita@uni.example','flu','v1','city','def flu_2026(): ...',NULL,NULL,'[]','','{}',0,'withdrawn',0,0,0,NULL,'2026-01-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00',NULL);
CREATE TABLE runs (
      id TEXT PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, round INTEGER NOT NULL,
      weights_digest TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, changed_at TEXT NOT NULL,
      reason TEXT) STRICT;
INSERT INTO "runs" VALUES('467aac1a749148d0b38f74245ac66558','request-1',1,'w','released','2026-01-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00',NULL);
CREATE TABLE totals (
      population TEXT NOT NULL REFERENCES populations, researcher TEXT NOT NULL, limit_epsilon REAL,
      
  spent_divergence_nano INTEGER NOT NULL DEFAULT 0 CHECK (spent_divergence_nano >= 0),
  spent_pure_nano INTEGER NOT NULL DEFAULT 0 CHECK (spent_pure_nano >= 0),
  spent_mixed INTEGER NOT NULL DEFAULT 0 CHECK (spent_mixed >= 0),
  spent_delta_atto INTEGER NOT NULL DEFAULT 0 CHECK (spent_delta_atto >= 0), 
  reserved_divergence_nano INTEGER NOT NULL DEFAULT 0 CHECK (reserved_divergence_nano >= 0),
  reserved_pure_nano INTEGER NOT NULL DEFAULT 0 CHECK (reserved_pure_nano >= 0),
  reserved_mixed INTEGER NOT NULL DEFAULT 0 CHECK (reserved_mixed >= 0),
  reserved_delta_atto INTEGER NOT NULL DEFAULT 0 CHECK (reserved_delta_atto >= 0),
      PRIMARY KEY (population, researcher)) STRICT;
INSERT INTO "totals" VALUES('city','',NULL,100000000,0,1,0,400000000,0,4,0);
INSERT INTO "totals" VALUES('city','rita@uni.example',NULL,100000000,0,1,0,400000000,0,4,0);
CREATE TABLE votes (
      seq INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, side TEXT NOT NULL, actor TEXT NOT NULL,
      plan_digest TEXT NOT NULL, at TEXT NOT NULL, UNIQUE (request, side)) STRICT;
INSERT INTO "votes" VALUES(1,'request-2','owner','owner','814540cf0e720b3f559e4c7960d6ca3ae737c140b40295a01e4362dea27e31ed','2026-01-01T00:00:00.000000+00:00');
INSERT INTO "votes" VALUES(2,'request-2','second_reviewer','rev@hospital.example','814540cf0e720b3f559e4c7960d6ca3ae737c140b40295a01e4362dea27e31ed','2026-01-01T00:00:00.000000+00:00');
CREATE UNIQUE INDEX one_published_version ON datasets (name) WHERE status = 'published';
CREATE INDEX requests_by_status ON requests (status, submitted_at);
CREATE INDEX runs_by_request ON runs (request, round);
CREATE INDEX open_runs ON runs (status) WHERE status IN ('reserved', 'running');
CREATE UNIQUE INDEX one_live_run ON runs (request, round)
      WHERE status IN ('reserved', 'running', 'released');
CREATE INDEX comments_by_request ON comments (request);
CREATE INDEX entries_by_request ON entries (request) WHERE request IS NOT NULL;
CREATE INDEX entries_by_population ON entries (population) WHERE population IS NOT NULL;
CREATE INDEX restores ON entries (seq) WHERE kind IN ('restore', 'accept');
CREATE TRIGGER spent_never_decreases BEFORE UPDATE ON totals
      WHEN NEW.spent_divergence_nano < OLD.spent_divergence_nano
      BEGIN SELECT RAISE(ABORT, 'spent never decreases'); END;
CREATE TRIGGER entries_not_updated BEFORE UPDATE ON entries
          BEGIN SELECT RAISE(ABORT, 'entries can only be appended to'); END;
CREATE TRIGGER entries_not_deleted BEFORE DELETE ON entries
          BEGIN SELECT RAISE(ABORT, 'entries can only be appended to'); END;
CREATE TRIGGER audit_not_updated BEFORE UPDATE ON audit
          BEGIN SELECT RAISE(ABORT, 'audit can only be appended to'); END;
CREATE TRIGGER audit_not_deleted BEFORE DELETE ON audit
          BEGIN SELECT RAISE(ABORT, 'audit can only be appended to'); END;
CREATE TRIGGER releases_not_updated BEFORE UPDATE ON releases
          BEGIN SELECT RAISE(ABORT, 'releases can only be appended to'); END;
CREATE TRIGGER releases_not_deleted BEFORE DELETE ON releases
          BEGIN SELECT RAISE(ABORT, 'releases can only be appended to'); END;
CREATE TRIGGER comments_not_updated BEFORE UPDATE ON comments
          BEGIN SELECT RAISE(ABORT, 'comments can only be appended to'); END;
CREATE TRIGGER comments_not_deleted BEFORE DELETE ON comments
          BEGIN SELECT RAISE(ABORT, 'comments can only be appended to'); END;
CREATE TRIGGER votes_not_updated BEFORE UPDATE ON votes
          BEGIN SELECT RAISE(ABORT, 'votes can only be appended to'); END;
CREATE TRIGGER votes_not_deleted BEFORE DELETE ON votes
          BEGIN SELECT RAISE(ABORT, 'votes can only be appended to'); END;
COMMIT;
