"""The same pass in other libraries: read a topic, look at each record, write it to another, commit."""
