"""A live migration of a learning network on this machine, with a fault, a rollback and an audit."""
