-- A head of another epoch of the store never takes the place of one that was kept.
ALTER TABLE journal_head RENAME TO journal_head_before;
CREATE TABLE journal_head (
  node      TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  seq       INTEGER NOT NULL,
  statement BLOB NOT NULL,
  signature BLOB NOT NULL,
  told_ms   INTEGER NOT NULL DEFAULT 0, -- when the parent took it; 0: not yet
  PRIMARY KEY (node, epoch, seq)
) WITHOUT ROWID;
INSERT INTO journal_head
  SELECT node, json_extract(CAST(statement AS TEXT), '$.epoch'), seq, statement, signature, told_ms FROM journal_head_before;
DROP TABLE journal_head_before;
