"""truc: one gateway node, run at every tier. Start reading at `app.py`; the walk of a document is in docs/walk.md."""
