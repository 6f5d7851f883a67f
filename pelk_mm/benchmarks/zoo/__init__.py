"""The table of docs/nets/zoo.md."""
