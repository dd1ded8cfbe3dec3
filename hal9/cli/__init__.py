"""The `hal9` command. Each verb imports what it needs when it runs, so that help comes at once."""
