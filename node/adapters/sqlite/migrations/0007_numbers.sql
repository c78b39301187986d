-- What a ledger row says beside the event. document: 1 on the one row that stands for the document itself, however many receivers.
-- office: whose office it is, where the addressed organ has none of its own. made_ms: when the first node took it.
ALTER TABLE ledger ADD COLUMN document INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN office TEXT NOT NULL DEFAULT '';
ALTER TABLE ledger ADD COLUMN made_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN type TEXT NOT NULL DEFAULT '';
ALTER TABLE ledger ADD COLUMN paper TEXT NOT NULL DEFAULT '';   -- '0': none follows, '1': paper follows, '': not said
ALTER TABLE ledger ADD COLUMN dated TEXT NOT NULL DEFAULT '';   -- the date on the document, as read
ALTER TABLE ledger ADD COLUMN trial INTEGER NOT NULL DEFAULT 0; -- thử nghiệm: in no figure
UPDATE ledger SET document=1 WHERE seq IN (SELECT min(seq) FROM ledger WHERE event='sent' GROUP BY origin,id);
UPDATE ledger SET document=1 WHERE seq IN (SELECT min(seq) FROM ledger WHERE event IN ('collected','arrived') GROUP BY event,organ,origin,id);
CREATE INDEX ledger_id ON ledger (id);

-- What was counted here of a day: folded from the ledger in the transaction that moves the cursor meta.counted, so each row once.
CREATE TABLE counted (
  day     TEXT NOT NULL,
  subject TEXT NOT NULL,             -- 'o' and an organ; 'p' and two level-1 codes; 'r': this node's road
  counts  TEXT NOT NULL,             -- JSON
  PRIMARY KEY (day, subject)
) WITHOUT ROWID;
-- Days of which a new statement is due: times: so often has something changed since the last one.
CREATE TABLE recount (
  day   TEXT PRIMARY KEY,
  times INTEGER NOT NULL
) WITHOUT ROWID;

-- Bảng kê số liệu ngày: the highest version of each (node, day); of those it replaced, the ones that were final.
CREATE TABLE statement (
  node        TEXT NOT NULL,
  day         TEXT NOT NULL,
  epoch       INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  final       INTEGER NOT NULL,
  via         TEXT,                  -- the child it came from; NULL: made here
  parent      TEXT,                  -- under whom the node says it hung; NULL: the hub
  digest      TEXT NOT NULL,
  data        BLOB NOT NULL,
  signature   BLOB NOT NULL,
  certificate TEXT NOT NULL,
  came_ms     INTEGER NOT NULL,
  up          INTEGER NOT NULL DEFAULT 0, -- 1: the parent holds it; 2: the parent refused it
  PRIMARY KEY (node, day)
) WITHOUT ROWID;
CREATE INDEX statement_up ON statement (day, node) WHERE up=0;
CREATE INDEX statement_open ON statement (day) WHERE final=0;
CREATE INDEX statement_days ON statement (node, day, final, parent);
CREATE TABLE statement_past (
  node      TEXT NOT NULL,
  day       TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  n         INTEGER NOT NULL,
  data      BLOB NOT NULL,
  signature BLOB NOT NULL,
  PRIMARY KEY (node, day, epoch, n)
) WITHOUT ROWID;
-- Statements that were not taken, named: altered, of nobody below, badly signed.
CREATE TABLE statement_refused (
  node   TEXT NOT NULL,
  day    TEXT NOT NULL,
  via    TEXT NOT NULL,
  reason TEXT NOT NULL,
  epoch  INTEGER NOT NULL,
  n      INTEGER NOT NULL,
  at_ms  INTEGER NOT NULL,
  times  INTEGER NOT NULL,
  PRIMARY KEY (day, node, reason)
) WITHOUT ROWID;
-- Their figures, added: by day, by the part of a month before the 15th or from it on ('2026-11-01+', '2026-11-15+': of these both
-- the calendar's months and those of NĐ 09/2019 are made), over all time ('*'), and what there was at last ('=').
CREATE TABLE figure (
  span    TEXT NOT NULL,
  subject TEXT NOT NULL,             -- as in counted; 's': the subtree as the node claims it
  node    TEXT NOT NULL,
  parent  TEXT NOT NULL,             -- under whom the node hung; '-': under nobody
  counts  TEXT NOT NULL,
  PRIMARY KEY (span, subject, node, parent)
) WITHOUT ROWID;
