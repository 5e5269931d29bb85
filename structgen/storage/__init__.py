"""Where artifacts lie: sealed content on a shelf, which is a folder that every node sees or a bucket of an object store."""
