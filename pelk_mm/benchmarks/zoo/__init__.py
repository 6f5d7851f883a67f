"""The table of docs/zoo.md."""
