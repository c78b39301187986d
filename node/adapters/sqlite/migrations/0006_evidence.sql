-- What proves the ends of deliveries that began here: the notices that told them, as their nodes signed them.
CREATE TABLE notice (
  seq       INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms     INTEGER NOT NULL,
  header    BLOB NOT NULL,
  signature BLOB NOT NULL,
  body      BLOB NOT NULL
);
CREATE INDEX notice_at ON notice (at_ms);
ALTER TABLE delivery ADD COLUMN notice INTEGER;
-- The header of what an office here has sent, when its envelope is past its retention.
CREATE TABLE sealed (
  envelope  INTEGER PRIMARY KEY,     -- submission.envelope
  header    BLOB NOT NULL,
  signature BLOB NOT NULL
);
