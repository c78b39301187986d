-- One node's custody. Organisation codes are root first, '' is the hub. Instants are UTC milliseconds (*_ms).
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- What travels: exact header bytes and signature, and what queries need of them.
CREATE TABLE envelope (
  seq            INTEGER PRIMARY KEY AUTOINCREMENT,
  origin         TEXT NOT NULL,
  id             TEXT NOT NULL,
  digest         TEXT NOT NULL,
  header         BLOB NOT NULL,
  signature      BLOB NOT NULL,
  certificate    TEXT NOT NULL,
  kind           TEXT NOT NULL,
  sender         TEXT NOT NULL,
  lane           INTEGER NOT NULL,
  priority       INTEGER NOT NULL,
  doc_id         TEXT NOT NULL,
  document_id    TEXT NOT NULL,
  expires_ms     INTEGER NOT NULL,
  hops           TEXT NOT NULL,
  came_from      TEXT,               -- the neighbour it came from; NULL: made here
  taken_ms       INTEGER NOT NULL,
  ended_ms       INTEGER,            -- nothing of it is left to do here since then
  boxed          INTEGER NOT NULL DEFAULT 0, -- an office here has it: kept longer
  UNIQUE (origin, id)
);
CREATE INDEX envelope_id ON envelope (id);
CREATE INDEX envelope_doc ON envelope (doc_id);
CREATE INDEX envelope_document ON envelope (document_id);
CREATE INDEX envelope_ended ON envelope (boxed, ended_ms) WHERE ended_ms IS NOT NULL;

-- Bodies by digest: inline, or a file below the body folder.
CREATE TABLE body (
  digest   TEXT PRIMARY KEY,
  size     INTEGER NOT NULL,
  data     BLOB,
  file     TEXT,
  taken_ms INTEGER NOT NULL,
  CHECK ((data IS NULL) <> (file IS NULL))
);
CREATE INDEX body_files ON body (size) WHERE file IS NOT NULL;
CREATE TABLE envelope_body (
  envelope INTEGER NOT NULL REFERENCES envelope (seq) ON DELETE CASCADE,
  digest   TEXT NOT NULL,
  PRIMARY KEY (envelope, digest)
) WITHOUT ROWID;
CREATE INDEX envelope_body_digest ON envelope_body (digest);
-- Bodies that may have nobody left to name them: looked at after since_ms, so that no sweep reads all of them.
CREATE TABLE loose (
  digest   TEXT PRIMARY KEY,
  since_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX loose_since ON loose (since_ms);
-- A digest is not a ticket to read a file (decision 7): who itself sent us this body, or was given it by us.
CREATE TABLE body_peer (
  digest    TEXT NOT NULL,
  neighbour TEXT NOT NULL,
  PRIMARY KEY (digest, neighbour)
) WITHOUT ROWID;
CREATE TABLE certificate (
  digest TEXT PRIMARY KEY,
  chain  BLOB NOT NULL
);

-- Hàng chờ chuyển: one row per (envelope, recipient) for a neighbour.
CREATE TABLE outbox (
  item       INTEGER PRIMARY KEY AUTOINCREMENT,
  envelope   INTEGER NOT NULL REFERENCES envelope (seq),
  recipient  TEXT NOT NULL,
  neighbour  TEXT NOT NULL,
  lane       INTEGER NOT NULL,
  sender     TEXT NOT NULL,
  order_key  TEXT,                   -- new, update, replace of one (sender, recipient, DocumentId) keep their order
  bytes      INTEGER NOT NULL,       -- what it adds to a batch
  state      TEXT NOT NULL CHECK (state IN ('waiting', 'body', 'held')),
  in_doubt   INTEGER NOT NULL DEFAULT 0,
  due_ms     INTEGER NOT NULL,
  attempts   INTEGER NOT NULL DEFAULT 0,
  chokes     INTEGER NOT NULL DEFAULT 0, -- attempts that count towards being held
  reason     TEXT NOT NULL DEFAULT '',
  since_ms   INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,       -- the lifetime and its bound; 0: never
  hops       TEXT,                   -- where they differ from the envelope's: this recipient's copy came back
  UNIQUE (envelope, recipient)
);
CREATE INDEX outbox_next ON outbox (neighbour, lane, item) WHERE state <> 'held';
CREATE INDEX outbox_sender ON outbox (neighbour, lane, sender, item) WHERE state <> 'held';
CREATE INDEX outbox_order ON outbox (order_key, neighbour, item) WHERE order_key IS NOT NULL;
CREATE INDEX outbox_expiry ON outbox (expires_ms) WHERE expires_ms > 0;
CREATE INDEX outbox_due ON outbox (neighbour, state, due_ms);
CREATE INDEX outbox_held ON outbox (item) WHERE state = 'held';

-- Hộp văn bản chờ lấy: one open item per (envelope, receiving organ).
CREATE TABLE mailbox (
  item       INTEGER PRIMARY KEY AUTOINCREMENT,
  envelope   INTEGER NOT NULL REFERENCES envelope (seq),
  organ      TEXT NOT NULL,
  recipients TEXT NOT NULL,          -- JSON: the addressed codes this organ receives for
  kind       TEXT NOT NULL,
  doc_id     TEXT NOT NULL,
  lane       INTEGER NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('initial', 'processing', 'fail', 'held', 'done', 'ended')),
  fetched_ms INTEGER,
  done_early INTEGER NOT NULL DEFAULT 0,
  fails      INTEGER NOT NULL DEFAULT 0,
  flag       TEXT NOT NULL DEFAULT '',
  since_ms   INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL
);
CREATE UNIQUE INDEX mailbox_one ON mailbox (envelope, organ) WHERE state NOT IN ('done', 'ended');
CREATE INDEX mailbox_envelope ON mailbox (envelope);
CREATE INDEX mailbox_open ON mailbox (organ, kind, lane, item) WHERE state IN ('initial', 'processing', 'fail');
CREATE INDEX mailbox_held ON mailbox (item) WHERE state = 'held';
CREATE INDEX mailbox_flag ON mailbox (flag) WHERE flag <> '';
CREATE INDEX mailbox_doc ON mailbox (doc_id, organ);
CREATE INDEX mailbox_expiry ON mailbox (expires_ms) WHERE expires_ms > 0 AND state IN ('initial', 'processing', 'fail');

-- What office systems here have handed in, and how each delivery stands.
CREATE TABLE submission (
  envelope     INTEGER PRIMARY KEY,  -- envelope.seq; outlives the envelope's own row
  origin       TEXT NOT NULL,
  id           TEXT NOT NULL,
  system       TEXT NOT NULL,
  doc_id       TEXT NOT NULL UNIQUE,
  file_digest  TEXT NOT NULL,
  kind         TEXT NOT NULL,
  message_type TEXT NOT NULL,
  sender       TEXT NOT NULL,
  sender_text  TEXT NOT NULL,        -- code and name of the sender as written
  sender_name  TEXT NOT NULL,
  document_id  TEXT NOT NULL,
  notation     TEXT NOT NULL,        -- số/ký hiệu
  date         TEXT NOT NULL,
  title        TEXT NOT NULL,
  business     INTEGER NOT NULL,
  priority     INTEGER NOT NULL,
  taken_ms     INTEGER NOT NULL,
  UNIQUE (origin, id)
);
CREATE INDEX submission_repeat ON submission (system, file_digest, taken_ms);
CREATE INDEX submission_list ON submission (system, kind, taken_ms);
CREATE INDEX submission_taken ON submission (taken_ms);
CREATE INDEX submission_id ON submission (id);
CREATE INDEX submission_by_document ON submission (document_id);
CREATE INDEX submission_document ON submission (sender, document_id);
CREATE INDEX submission_notation ON submission (sender, notation, date);
CREATE TABLE delivery (
  envelope        INTEGER NOT NULL REFERENCES submission (envelope) ON DELETE CASCADE,
  recipient       TEXT NOT NULL,     -- the code, or '?' and the text where no code could be read
  organ           TEXT NOT NULL,     -- who receives for it
  written         TEXT NOT NULL,
  state           TEXT NOT NULL,
  at_door         INTEGER NOT NULL DEFAULT 0,  -- refused before custody: named at once in the answer
  reason          TEXT NOT NULL DEFAULT '',
  successor       TEXT NOT NULL DEFAULT '',
  derived_doc_id  TEXT NOT NULL,     -- the docId its office sees where one system receives for several organs
  receiver_doc_id TEXT NOT NULL DEFAULT '',
  office_status   TEXT NOT NULL DEFAULT '',
  office_text     TEXT NOT NULL DEFAULT '',
  office_ms       INTEGER NOT NULL DEFAULT 0,
  collected_ms    INTEGER NOT NULL DEFAULT 0,
  updated_ms      INTEGER NOT NULL,
  PRIMARY KEY (envelope, recipient)
) WITHOUT ROWID;
CREATE INDEX delivery_derived ON delivery (derived_doc_id);

-- The outcome of the first copy, for every key (origin, envelope id, recipient) (decision 4).
CREATE TABLE seen (
  origin    TEXT NOT NULL,
  id        TEXT NOT NULL,
  recipient TEXT NOT NULL,
  digest    TEXT NOT NULL,
  handed_to TEXT,                    -- the neighbour that has taken it from us; '' is the hub, NULL: nobody yet
  until_ms  INTEGER NOT NULL,        -- 0: as long as this database lives
  PRIMARY KEY (origin, id, recipient)
) WITHOUT ROWID;
CREATE INDEX seen_until ON seen (until_ms) WHERE until_ms > 0;

-- Nhật ký hệ thống: append only, each row carries the hash of the one before it.
CREATE TABLE journal (
  seq       INTEGER PRIMARY KEY,
  at_ms     INTEGER NOT NULL,
  bound_ms  INTEGER NOT NULL,
  event     TEXT NOT NULL,
  envelope  TEXT NOT NULL,
  recipient TEXT NOT NULL,
  neighbour TEXT NOT NULL,
  reason    TEXT NOT NULL,
  detail    TEXT NOT NULL,
  hash      BLOB NOT NULL
);
CREATE INDEX journal_envelope ON journal (envelope);

-- Sổ cái: one row per event that counts, in the transaction of the event (decision 12).
CREATE TABLE ledger (
  seq          INTEGER PRIMARY KEY,
  at_ms        INTEGER NOT NULL,
  bound_ms     INTEGER NOT NULL,
  synchronised INTEGER NOT NULL,
  event        TEXT NOT NULL,
  organ        TEXT NOT NULL,        -- whose figures it belongs to
  counterpart  TEXT NOT NULL,
  origin       TEXT NOT NULL,
  id           TEXT NOT NULL,
  kind         TEXT NOT NULL,
  business     INTEGER NOT NULL,
  priority     INTEGER NOT NULL,
  reason       TEXT NOT NULL
);
CREATE INDEX ledger_at ON ledger (at_ms);

-- What only a person may decide and is no document: requests to register or delete an organ.
CREATE TABLE agency_request (
  item   INTEGER PRIMARY KEY AUTOINCREMENT,
  system TEXT NOT NULL,
  action TEXT NOT NULL,
  fields TEXT NOT NULL,
  state  TEXT NOT NULL CHECK (state IN ('held', 'released', 'dropped')),
  at_ms  INTEGER NOT NULL
);
