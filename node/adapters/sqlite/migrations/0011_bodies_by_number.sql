-- A body has a number, in the order of arrival, and is named by it: what belongs to one batch then lies together. Digests have no
-- order, so every index by digest has each body on a page of its own; there is one now instead of four.
CREATE TABLE body_numbered (
  seq      INTEGER PRIMARY KEY,
  digest   TEXT NOT NULL UNIQUE,
  size     INTEGER NOT NULL,
  file     TEXT,
  taken_ms INTEGER NOT NULL,
  data     BLOB,
  CHECK ((data IS NULL) <> (file IS NULL))
);
INSERT INTO body_numbered (digest, size, file, taken_ms, data) SELECT digest, size, file, taken_ms, data FROM body ORDER BY rowid;
CREATE TABLE envelope_body_numbered (
  envelope INTEGER NOT NULL REFERENCES envelope (seq) ON DELETE CASCADE,
  body     INTEGER NOT NULL,         -- body.seq
  PRIMARY KEY (envelope, body)
) WITHOUT ROWID;
INSERT INTO envelope_body_numbered SELECT e.envelope, b.seq FROM envelope_body e JOIN body_numbered b ON b.digest = e.digest;
CREATE TABLE body_peer_numbered (
  body      INTEGER NOT NULL,
  neighbour TEXT NOT NULL,
  PRIMARY KEY (body, neighbour)
) WITHOUT ROWID;
INSERT INTO body_peer_numbered SELECT b.seq, p.neighbour FROM body_peer p JOIN body_numbered b ON b.digest = p.digest;
CREATE TABLE loose_numbered (
  body     INTEGER PRIMARY KEY,
  since_ms INTEGER NOT NULL
);
INSERT INTO loose_numbered SELECT b.seq, l.since_ms FROM loose l JOIN body_numbered b ON b.digest = l.digest;
DROP TABLE loose;
DROP TABLE body_peer;
DROP TABLE envelope_body;
DROP TABLE body;
ALTER TABLE body_numbered RENAME TO body;
ALTER TABLE envelope_body_numbered RENAME TO envelope_body;
ALTER TABLE body_peer_numbered RENAME TO body_peer;
ALTER TABLE loose_numbered RENAME TO loose;
CREATE INDEX body_files ON body (size) WHERE file IS NOT NULL;
CREATE INDEX envelope_body_body ON envelope_body (body);
CREATE INDEX loose_since ON loose (since_ms);
