-- The heads that this node has signed for its own journal, and those that the nodes below have handed up.
CREATE TABLE journal_head (
  node      TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  at_ms     INTEGER NOT NULL,
  statement BLOB NOT NULL,
  signature BLOB NOT NULL,
  told_ms   INTEGER NOT NULL DEFAULT 0, -- when the parent took it; 0: not yet
  PRIMARY KEY (node, seq)
) WITHOUT ROWID;
-- What persons did.
CREATE INDEX journal_act ON journal (seq) WHERE event = 'act';
