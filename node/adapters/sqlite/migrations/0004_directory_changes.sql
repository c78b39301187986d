-- What nodes have said of the codes they administer: every change whose place in its author's log is known, with its signature.
-- An author's higher epoch takes the place of its lower one.
CREATE TABLE directory_change (
  author    TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  number    INTEGER NOT NULL,
  body      BLOB NOT NULL,           -- exactly what was signed
  signature BLOB NOT NULL,
  key       TEXT NOT NULL,           -- SHA-256 of the signer's certificate
  PRIMARY KEY (author, epoch, number)
);
-- The signers' certificates, leaf first (PEM): whoever asks for a change has to judge its signature too.
CREATE TABLE directory_chain (
  key   TEXT PRIMARY KEY,
  chain BLOB NOT NULL
) WITHOUT ROWID;
